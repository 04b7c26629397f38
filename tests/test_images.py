"""Every way to store a picture gives the plain RGB of the same picture, to models and reports alike."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ray_itl.errors import InputError
from ray_itl.images import read_image
from ray_itl.training.inputs import decode_images

SIDE = 16
GREY = np.add.outer(np.arange(SIDE, dtype=np.uint8) * 12, np.arange(SIDE, dtype=np.uint8) * 3)
"""No two of its turns and flips are alike."""
COLOURS = np.stack([GREY, 255 - GREY, np.roll(GREY, 3, axis=0)], axis=2)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def pixels(content: bytes) -> np.ndarray:
    picture = read_image(content)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def stored_for(orientation: int, upright: np.ndarray) -> np.ndarray:
    """Return a picture as a camera stores it that notes `orientation` (the EXIF standard's own table)."""
    by_number: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),  # shown by a quarter turn clockwise
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(by_number[orientation](upright))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_stand_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    upright = COLOURS[:, :12]
    content = encoded(Image.fromarray(stored_for(orientation, upright)), kind, exif=exif, **options)
    seen = pixels(content)
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).mean() < (15 if kind == "JPEG" else 1)


def test_damaged_exif_does_not_matter() -> None:
    picture = Image.fromarray(COLOURS)
    assert np.array_equal(pixels(encoded(picture, exif=b"Exif\0\0MM\0*\0\0\xff\xff")), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled(kind: str) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert np.array_equal(pixels(encoded(deep, kind)), rgb(GREY))
    assert read_image(encoded(Image.fromarray(np.full((2, 2), 65535, np.uint16)), kind)).getpixel((0, 0)) == (255,) * 3


def test_16_bits_with_a_clear_value() -> None:
    deep = GREY.astype(np.uint16) * 257
    seen = pixels(encoded(Image.fromarray(deep), transparency=int(deep[0, 0])))
    assert np.array_equal(seen, rgb(np.where(deep == deep[0, 0], 255, GREY).astype(np.uint8)))


def test_tiff_in_which_white_is_zero() -> None:
    content = encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(pixels(content), rgb(255 - GREY))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    black = GREY > 100
    assert np.array_equal(pixels(encoded(Image.fromarray(black), kind)), rgb(np.where(black, 255, 0).astype(np.uint8)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_white(kind: str) -> None:
    alpha = np.where(GREY > 60, 255, 0).astype(np.uint8)
    layer = Image.fromarray(np.dstack([COLOURS, alpha]))
    expected = np.where(alpha[:, :, None] == 255, COLOURS, 255)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(pixels(encoded(layer, kind, **options)), expected)
    half = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert read_image(encoded(half)).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_transparency(kind: str) -> None:
    alpha = np.where(GREY > 60, 255, 0).astype(np.uint8)
    layer = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    assert np.array_equal(pixels(encoded(layer, kind)), rgb(np.where(alpha == 255, GREY, 255).astype(np.uint8)))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_palettes(kind: str, as_bytes: bool) -> None:
    numbers = (GREY // 64).astype(np.uint8)
    palette = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    indexed = Image.fromarray(numbers).convert("P")
    indexed.putdata(numbers.reshape(-1).tolist())
    indexed.putpalette([value for colour in palette for value in colour])
    assert np.array_equal(pixels(encoded(indexed, kind)), np.array(palette, np.uint8)[numbers])
    if kind == "GIF" and as_bytes:
        return
    clear = bytes([255, 0, 255, 255]) if as_bytes else 1
    expected = np.array([palette[0], (255, 255, 255), *palette[2:]], np.uint8)[numbers]
    assert np.array_equal(pixels(encoded(indexed, kind, transparency=clear)), expected)


def test_colour_of_a_single_transparent_value() -> None:
    expected = COLOURS.copy()
    clear = tuple(COLOURS[0, 0].tolist())
    expected[(COLOURS[0, 0] == COLOURS).all(axis=2)] = 255
    assert np.array_equal(pixels(encoded(Image.fromarray(COLOURS), transparency=clear)), expected)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_become_light(kind: str) -> None:
    """JPEG stores inks upside down, as Adobe does, and says so."""
    inks = Image.fromarray(np.full((SIDE, SIDE, 3), (200, 100, 50), np.uint8)).convert("CMYK")
    content = encoded(inks, kind, **({"quality": 100} if kind == "JPEG" else {}))
    assert kind == "TIFF" or b"Adobe" in content
    assert np.abs(pixels(content).astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_several(kind: str) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(pixels(content), np.full((SIDE, SIDE, 3), (255, 0, 0), np.uint8))


def test_colour_profiles_are_ignored() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(pixels(encoded(Image.fromarray(COLOURS), icc_profile=profile)), COLOURS)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bits_have_no_white(mode: str) -> None:
    content = encoded(Image.new(mode, (4, 4)), "TIFF")
    with pytest.raises(InputError, match="write 8 or 16"):
        read_image(content)


def test_bytes_that_are_no_picture_are_one_row_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(Image.fromarray(COLOURS))
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        content = bytearray(encoded(Image.fromarray(COLOURS), kind))
        for _ in range(40):  # damage ends in a picture or in an InputError, whatever the decoder thinks of it
            content[rng.integers(len(content))] = rng.integers(256)
            try:
                read_image(bytes(content))
            except InputError:
                continue
    with pytest.raises(InputError, match="more than 5 pixels"):
        read_image(whole, most_pixels=5)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"row 1 .* image \(.*; drop the row"):
        decode_images(pa.array([encoded(Image.new("L", (1, 1))), whole]), SIDE, 1)


def test_models_are_given_the_same_whatever_the_file() -> None:
    """One picture of grey as 8 bits, 16 bits, with alpha, and of two types of column."""
    plain, deep = encoded(Image.fromarray(GREY)), encoded(Image.fromarray(GREY.astype(np.uint16) * 257))
    clear = encoded(Image.fromarray(GREY).convert("LA"))
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        found = decode_images(pa.array([plain, deep, clear], kind), SIDE, 1).numpy()
        assert np.array_equal(found, np.broadcast_to(GREY / np.float32(255), found.shape))
