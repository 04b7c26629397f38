"""Raw columns as tensors: every type that is read, and messages that name the row for what is not."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_itl.errors import InputError
from ray_itl.training.inputs import decode_images, decode_numbers, decode_texts, trim_padding
from tests.training.worker_helpers import vectors

ROWS = np.arange(12).reshape(4, 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int64"])
@pytest.mark.parametrize("kind", ["fixed", "list", "large", "tensor", "slice"])
def test_lists_of_numbers_become_rows(dtype, kind):
    rows = ROWS.astype(dtype)
    fixed = vectors(rows)
    column = {
        "fixed": fixed,
        "list": pa.array(list(rows), pa.list_(fixed.type.value_type)),
        "large": pa.array(list(rows), pa.large_list(fixed.type.value_type)),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(rows),
        "slice": pa.concat_arrays([vectors(rows + 1), fixed, vectors(rows + 2)]).slice(4, 4),
    }[kind]
    numbers = decode_numbers(column, 3)
    assert numbers.dtype == torch.float32
    assert numbers.tolist() == ROWS.tolist()


def test_slices_of_lists_are_respected():
    column = pa.array([[9.0] * 5, [1.0, 2.0], [3.0, 4.0], [9.0]]).slice(1, 2)
    assert decode_numbers(column, 2).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0], None], r"row 1 \(counting from 0\): the value is null; drop the row"),
        ([[1.0, 2.0], [3.0]], r"row 1 .* 1 numbers where the model reads 2"),
        ([[1.0, 2.0], [3.0, None]], r"row 1 .* null"),
        ([[1.0, 2.0], [3.0, float("nan")]], r"row 1 .* NaN or infinite"),
        ([[1.0, 2.0], [1e300, 2.0]], r"row 1 .* NaN or infinite"),
        (["a", "b"], r"type string, but the model reads lists of 2 numbers"),
        ([["a"], ["b"]], r"type list<item: string>"),
    ],
)
def test_rows_that_are_no_numbers_are_named(rows, message):
    with pytest.raises(InputError, match=message):
        decode_numbers(pa.array(rows), 2)


def test_nulls_and_wrong_sizes_of_fixed_size_lists_are_named():
    kind = pa.list_(pa.float32(), 2)
    with pytest.raises(InputError, match=r"row 2 .* null"):
        decode_numbers(pa.array([[1, 2], [3, 4], None], kind), 2)
    with pytest.raises(InputError, match=r"row 0 .* 2 numbers where the model reads 3"):
        decode_numbers(pa.array([[1, 2]], kind), 3)


def test_pixels_are_scaled_and_normalised():
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 12) * 20
    images = decode_images(vectors(pixels), 2, 3, mean=[0.1, 0.2, 0.3], std=[2.0])
    expected = (pixels.reshape(3, 2, 2) / 255 - np.array([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / 2
    np.testing.assert_allclose(images[0].numpy(), expected, rtol=1e-5)
    as_is = decode_images(vectors(pixels.astype(np.float32)), 2, 3)
    np.testing.assert_array_equal(as_is[0].numpy(), pixels.reshape(3, 2, 2))


def picture(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    image = pytest.importorskip("PIL.Image")
    content = io.BytesIO()
    image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def test_images_are_decoded_to_channels():
    pixels = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    files = [picture(one) for one in pixels]
    expected = pixels.transpose(0, 3, 1, 2) / np.float32(255)
    structs = pa.array([{"bytes": one, "path": None} for one in files])
    for column in (pa.array(files), pa.array(files, pa.large_binary()), structs):
        np.testing.assert_allclose(decode_images(column, 8, 3).numpy(), expected, rtol=1e-6)
    assert torch.equal(decode_images(structs.slice(1), 8, 3), decode_images(pa.array(files[1:]), 8, 3))
    assert decode_images(pa.array(files), 4, 1).shape == (2, 1, 4, 4)
    jpeg = decode_images(pa.array([picture(np.full((8, 8, 3), 100, np.uint8), "JPEG")]), 8, 3)
    assert (jpeg - 100 / 255).abs().max() < 0.02


def test_images_that_cannot_be_decoded_are_named():
    good = picture(np.zeros((4, 4), np.uint8))
    for bad in (b"", b"not an image", good[:40]):
        with pytest.raises(InputError, match=r"row 1 .* PNG or JPEG"):
            decode_images(pa.array([good, bad]), 4, 1)
    with pytest.raises(InputError, match=r"row 1 .* null"):
        decode_images(pa.array([good, None]), 4, 1)
    with pytest.raises(InputError, match=r"row 0 .* null"):
        decode_images(pa.array([None, {"bytes": good}]), 4, 1)


def test_an_image_that_claims_to_be_huge_is_not_opened(monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 10)
    for side in (4, 8):  # beyond the limit pillow warns, beyond twice the limit it raises
        with pytest.raises(InputError, match=r"row 0 .* PNG or JPEG"):
            decode_images(pa.array([picture(np.zeros((side, side), np.uint8))]), 4, 1)


def test_texts():
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        assert decode_texts(pa.array(["a b", "c", "c"], pa.string()).cast(kind)) == ["a b", "c", "c"]
    with pytest.raises(InputError, match=r"row 1 .* null"):
        decode_texts(pa.array(["a", None]))
    with pytest.raises(InputError, match=r"row 1 .* blank"):
        decode_texts(pa.array(["a", " \n"]))
    with pytest.raises(InputError, match=r"type int64, but the model reads text"):
        decode_texts(pa.array([1]))


def test_padding_of_all_rows_is_trimmed():
    inputs = {"input_ids": torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]]), "num_bytes": torch.tensor([5, 6])}
    trimmed = trim_padding({**inputs, "attention_mask": (inputs["input_ids"] > 0).long()})
    assert trimmed["input_ids"].tolist() == [[1, 2], [3, 0]]
    assert trimmed["attention_mask"].tolist() == [[1, 1], [1, 0]]
