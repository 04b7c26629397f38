"""Encoded images as a person sees them: upright, opaque, eight bits a channel. One reading for models and reports."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_itl.errors import InputError
from ray_itl.extras import load_extra

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
_WHITE = (255, 255, 255)
_ORIENTATION = 0x0112
"""Of EXIF: how the stored picture has to be turned to stand upright."""
_BITS, _PHOTOMETRIC = 258, 262
"""Of TIFF: bits of a pixel; 0 where black is the largest number."""


def read_image(content: bytes, near: tuple[int, int] | None = None, most_pixels: int | None = None) -> Image:
    """Return an encoded image as RGB, 8 bits a channel.

    It is turned as its EXIF says and laid on white where it is transparent; 16 bits are scaled to 8, palettes, CMYK and
    grey become RGB, and of several frames the first is taken. Colour profiles (ICC) are ignored, as they were when
    pretrained models learnt.

    Args:
        content: A file of one of `FORMATS`.
        near: Width and height about which the caller will shrink it to: a JPEG is then decoded coarsely, which is fast.
        most_pixels: Larger ones are not decoded. None: what pillow takes for honest.

    Raises:
        InputError: it cannot be decoded, or claims too many pixels (says which).
        MissingExtraError: pillow is not installed.
    """
    pillow: Any = load_extra("PIL.Image", "reading images", "vision")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata, of which nothing is used
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(io.BytesIO(content), formats=FORMATS) as picture:
                if most_pixels is not None and picture.width * picture.height > most_pixels:
                    raise ValueError(f"more than {most_pixels:,} pixels")
                if near is not None:
                    picture.draft("RGB", near)
                picture.load()
                return _turned(_opaque(picture, pillow), _orientation(picture), pillow)
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder makes of bytes from anywhere
        raise InputError(str(error) or type(error).__name__) from error


def _orientation(picture: Any) -> int:
    """Return 1 to 8, after EXIF; 1 (as it is) where there is none that can be read."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # of damaged metadata; the picture may be well
        return 1


def _turned(picture: Any, orientation: int, pillow: Any) -> Any:
    turn = pillow.Transpose
    turns = (
        *(turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM),
        *(turn.TRANSPOSE, turn.ROTATE_270, turn.TRANSVERSE, turn.ROTATE_90),
    )
    known = orientation in range(2, len(turns) + 2)
    return picture.transpose(turns[orientation - 2]) if known else picture


def _opaque(picture: Any, pillow: Any) -> Any:
    """Return a picture of any mode as RGB, on white where it is transparent."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return _from_16_bits(picture, pillow)
    if picture.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, of which nothing says how many are white: write 8 or 16")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return pillow.alpha_composite(pillow.new("RGBA", picture.size, (*_WHITE, 255)), layer).convert("RGB")


def _from_16_bits(picture: Any, pillow: Any) -> Any:
    """Return grey of up to 16 bits as RGB: the largest number becomes 255, and not all above 255."""
    values = np.asarray(picture).astype(np.float64)
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(_BITS, (16,))
    largest = 2.0 ** min(bits[0] if isinstance(bits, tuple) else bits, 16) - 1
    grey = np.rint(values * (255 / largest)).clip(0, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:
        grey = 255 - grey
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return pillow.fromarray(grey).convert("RGB")


def picture_of_numbers(values: Sequence[float]) -> bytes | None:
    """Return pixels given as numbers as a PNG, as models read them: s x s of grey, or three such planes of RGB.

    The least number becomes black and the largest white. None where there are not s^2 or 3 s^2 finite numbers.

    Raises:
        MissingExtraError: pillow is not installed.
    """
    pixels = np.asarray(values, dtype=np.float64)
    side = math.isqrt(len(pixels))
    planes = 1 if side * side == len(pixels) else 3
    side = side if planes == 1 else math.isqrt(len(pixels) // 3)
    if not side or planes * side * side != len(pixels) or not np.isfinite(pixels).all():
        return None
    pillow: Any = load_extra("PIL.Image", "drawing images", "vision")
    span = np.ptp(pixels) or 1.0
    bytes_ = np.rint((pixels - pixels.min()) * (255 / span)).astype(np.uint8).reshape(planes, side, side)
    picture = pillow.fromarray(bytes_[0] if planes == 1 else np.moveaxis(bytes_, 0, 2))
    stream = io.BytesIO()
    picture.save(stream, "png")
    return stream.getvalue()
