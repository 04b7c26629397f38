"""Images become small ones made anew; what is no image, or too much, is left out."""

import base64
import io
import sys

import pytest
from PIL import Image

from ray_itl.report import table as module
from ray_itl.report.selection_page import render
from ray_itl.report.table import holds_images, thumbnails
from tests.report.helpers import make_report_data
from tests.report.pages import Page


def encoded(size: tuple[int, int], kind: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, "red").save(stream, kind, **options)
    return stream.getvalue()


def decoded(uri: str) -> Image.Image:
    head, _, body = uri.partition(";base64,")
    assert head in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_every_format_is_shown_small(kind: str):
    values = [encoded((400, 200), kind), {"bytes": encoded((20, 30), kind), "path": None}, None]
    assert holds_images(values)
    large, small, none = thumbnails(values)
    assert decoded(large).size == (96, 48)
    assert decoded(small).size == (20, 30)
    assert none == ""


def test_pictures_are_shown_as_models_see_them():
    """Opaque, on white, and upright: as `images.read_image` gives them to models."""
    clear, exif = io.BytesIO(), Image.Exif()
    Image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(clear, "PNG")
    exif[0x0112] = 6
    shown = decoded(thumbnails([clear.getvalue()])[0])
    assert (shown.mode, shown.getpixel((0, 0))) == ("RGB", (255, 255, 255))
    assert decoded(thumbnails([encoded((400, 200), "JPEG", exif=exif.tobytes())])[0]).size == (48, 96)


@pytest.mark.parametrize("value", ["text", b"bytes", 5, None, {"path": "x.png"}, [1.0, 2.0]])
def test_other_columns_are_not_images(value: object):
    assert not holds_images([value, value])
    assert thumbnails([value]) == [""]


def test_damaged_and_huge_images_are_left_out(monkeypatch: pytest.MonkeyPatch):
    image = encoded((60, 60), "JPEG")
    monkeypatch.setattr(module, "_MAX_PIXELS", 3000)
    assert thumbnails([image, image[:40], b"\x89PNG\r\n\x1a\n" + b"\0" * 50, encoded((10, 10))])[:3] == ["", "", ""]
    assert thumbnails([encoded((10, 10))]) != [""]


def test_number_bytes_and_sides_are_bounded():
    image = encoded((10, 10))
    assert [bool(text) for text in thumbnails([image] * 5, most=3)] == [True, True, True, False, False]
    room = 2 * len(thumbnails([image])[0])
    assert [bool(text) for text in thumbnails([image] * 5, most_bytes=room)] == [True, True, False, False, False]
    assert decoded(thumbnails([encoded((100, 50))], side=20)[0]).size == (20, 10)


def test_nothing_of_the_file_but_pixels_gets_in():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "secret words")
    (uri,) = thumbnails([encoded((9, 9), pnginfo=info)])
    assert b"secret" not in base64.b64decode(uri.partition(",")[2])


def test_the_table_says_how_many_are_shown(monkeypatch: pytest.MonkeyPatch):
    columns = {"image": [encoded((8, 8)), None, None], "other": [encoded((8, 8))] * 3}
    table = Page(render(make_report_data(3, columns=columns))).table
    (pictures,) = [column for column in table["columns"] if column.get("image")]
    assert pictures["values"][0].startswith("data:image/png;base64,")
    assert "1 of 3 images are shown." in table["note"]
    assert "Too large to show here: other." in table["note"]
    for name in list(sys.modules):
        if name.partition(".")[0] == "PIL":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert thumbnails(columns["other"]) == ["", "", ""]
