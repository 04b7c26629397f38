"""Small pictures of the picks, to be shown inside the page."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence

from ray_itl.report.optional import load

THUMBNAIL_BYTES = 1_500_000
MOST_THUMBNAILS = 200
_SIDE = 96
_MOST_PIXELS = 50_000_000
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM")


def holds_images(values: Sequence[object]) -> bool:
    """Whether a column is one of encoded images: bytes, or structs with `bytes`; the first few that are set tell."""
    some = [content for value in values[:200] if (content := _content(value))][:20]
    return bool(some) and all(_looks_like_an_image(content) for content in some)


def thumbnails(values: Sequence[object]) -> list[str]:
    """A data URI of each image at most 96 pixels wide and high, and "" where there is none to show.

    Only the first 200 are made, and only as many as fit in `THUMBNAIL_BYTES`. Every image is decoded and encoded anew
    (as PNG or JPEG), so that nothing of the file but its pixels gets into the page; what cannot be decoded, or has more
    than 50 million pixels, is left out. Without Pillow there are none.
    """
    shown = [""] * len(values)
    room = THUMBNAIL_BYTES
    try:
        load("PIL.Image")
    except ImportError:
        return shown
    for k, value in enumerate(values[:MOST_THUMBNAILS]):
        content = _content(value)
        text = _thumbnail(content) if content and _looks_like_an_image(content) else ""
        room -= len(text)
        if room < 0:
            break
        shown[k] = text
    return shown


def _content(value: object) -> bytes | None:
    content = value.get("bytes") if isinstance(value, Mapping) else value
    return content if isinstance(content, bytes) else None


def _looks_like_an_image(content: bytes) -> bool:
    return content.startswith(_BEGINNINGS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _thumbnail(content: bytes) -> str:
    images = load("PIL.Image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata and large images are dealt with here
            with images.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > _MOST_PIXELS:
                    return ""
                image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
                small = image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")
        small.thumbnail((_SIDE, _SIDE))
    except Exception:  # whatever a decoder makes of bytes from anywhere, the page goes on without
        return ""
    stream = io.BytesIO()
    kind = "png" if small.mode == "RGBA" or small.width * small.height <= 1024 else "jpeg"
    small.save(stream, kind, **({"quality": 80} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
