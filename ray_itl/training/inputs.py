"""Raw Arrow columns as tensors and strings: numbers, pixels, encoded images, texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ray_itl.errors import InputError
from ray_itl.images import read_image
from ray_itl.sources.schema import which_row

ANSWERS = "answers"
"""Inputs that say which tokens are trained on and scored, where not all are."""
_MODES = {1: "L", 3: "RGB"}
_BILINEAR = 2
"""Of pillow, which is imported only when there are images."""


def decode_numbers(column: pa.Array, dim: int) -> Tensor:
    """Return an n x dim float32 tensor of a column of lists of numbers (of fixed size or not, of any numeric type).

    Raises:
        InputError: another type; or a row that is null, has another length, or holds a null, NaN or infinity.
    """
    column = _storage(column)
    kind = column.type
    fixed = pa.types.is_fixed_size_list(kind)
    if not (fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not _is_number(kind.value_type):
        raise InputError(f"the column has type {kind}, but the model reads lists of {dim} numbers: name another column")
    reject_nulls(column, "drop the row")
    lengths = np.full(len(column), kind.list_size) if fixed else np.diff(column.offsets.to_numpy())
    wrong = np.flatnonzero(lengths != dim)
    if wrong.size:
        raise InputError(
            f"{which_row('', int(wrong[0]))}: {lengths[wrong[0]]} numbers where the model reads {dim}; correct the "
            "row, or the model's options"
        )
    flat = column.flatten()
    if flat.null_count:
        raise InputError(f"{which_row('', _first_null(flat) // dim)}: one of the numbers is null; drop the row")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes an infinity, and is reported as one
        numbers = flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(column), dim)
    finite = np.isfinite(numbers).all(axis=1)
    if not finite.all():
        raise InputError(f"{which_row('', int(np.argmin(finite)))}: a number is NaN or infinite; drop the row")
    return torch.from_numpy(numbers)


def decode_images(
    column: pa.Array, side: int, channels: int, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)
) -> Tensor:
    """Return an n x channels x side x side float32 tensor, (pixel - mean) / std with pixels from 0 to 1.

    Args:
        column: Encoded images (or structs with a field `bytes`) as `images.read_image` reads them, resized to side x
            side without keeping proportions; or lists of channels * side * side numbers, channel by channel and row by
            row, where uint8 is divided by 255 and floats are taken as they are.
        side: Height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        mean: One number, or one for each channel.
        std: Likewise, positive.

    Raises:
        InputError: a row that cannot be decoded.
        MissingExtraError: images of bytes without pillow.
    """
    column = _content(column)
    if _is_bytes(column):
        pixels = _decode_files(column, side, channels) / 255
    else:
        pixels = decode_numbers(column, channels * side * side).reshape(-1, channels, side, side)
        pixels = pixels / 255 if pa.types.is_uint8(column.type.value_type) else pixels
    centre, scale = (torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1) for values in (mean, std))
    return (pixels - centre) / scale


def decode_texts(column: pa.Array) -> list[str]:
    """Return the strings of a text column.

    Raises:
        InputError: another type; or a row that is null or blank.
    """
    column = _storage(column)
    if not is_text(column):
        raise InputError(f"the column has type {column.type}, but the model reads text: name another column")
    reject_nulls(column, "drop the row")
    texts = column.to_pylist()
    for row, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"{which_row('', row)}: the text is blank; drop the row")
    return texts


def without_predictions(inputs: dict[str, Tensor]) -> list[int]:
    """Return the rows, counted from 0, no token of which is predicted."""
    return (~predicted_tokens(inputs).any(dim=1)).nonzero()[:, 0].tolist()


def predicted_tokens(inputs: dict[str, Tensor]) -> Tensor:
    """Return which tokens are predicted, n x (T - 1) bool, T as of `trim_padding`: all, or those of the answers.

    Padding is not, nor is the first token of a row, which is given.
    """
    mask = trim_padding(inputs)["attention_mask"][:, 1:].bool()
    return mask & inputs[ANSWERS][:, 1 : mask.shape[1] + 1].bool() if ANSWERS in inputs else mask


def decode_pictures(column: pa.Array) -> list[Any]:
    """Return the encoded images of a column (bytes, or structs with a field `bytes`) as RGB (see `images.read_image`).

    Raises:
        InputError: another type; or a row that cannot be decoded.
        MissingExtraError: pillow is not installed.
    """
    column = _content(column)
    if not _is_bytes(column):
        raise InputError(f"the column has type {column.type}, but the model reads encoded images: name another column")
    return list(_pictures(column))


def decode_values(column: pa.Array) -> list[Any]:
    """Return the values of a column as Python has them: texts, bytes of images, lists of numbers.

    Raises:
        InputError: a row that is null, or a blank text.
    """
    column = _content(column)
    if is_text(column):
        return decode_texts(column)
    reject_nulls(column, "drop the row")
    return column.to_pylist()


def is_text(column: pa.Array) -> bool:
    """Whether a column holds texts, as they are or by dictionary."""
    kind = _storage(column).type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _content(column: pa.Array) -> pa.Array:
    """Return the bytes of a column of structs that have some, and any other column; binary views as large binary."""
    column = _storage(column)
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        reject_nulls(column, "drop the row")
        column = column.field("bytes")
    return column.cast(pa.large_binary()) if pa.types.is_binary_view(column.type) else column


def _is_bytes(column: pa.Array) -> bool:
    return pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)


def _storage(column: pa.Array) -> pa.Array:
    """Return a column without extension types and dictionaries around its values."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _first_null(array: pa.Array) -> int:
    return pc.index(array.is_null(), True).as_py()


def reject_nulls(column: pa.Array, remedy: str) -> None:
    """Raise InputError about the first row of a column that is null."""
    if column.null_count:
        raise InputError(f"{which_row('', _first_null(column))}: the value is null; {remedy}")


def _decode_files(column: pa.Array, side: int, channels: int) -> Tensor:
    """Return pixels from 0 to 255 as float32, n x channels x side x side."""
    pixels = np.empty((len(column), side, side, channels), np.uint8)
    for row, picture in enumerate(_pictures(column)):
        picture = picture.convert(_MODES[channels])
        if picture.size != (side, side):
            picture = picture.resize((side, side), _BILINEAR)
        pixels[row] = np.asarray(picture).reshape(side, side, channels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


def _pictures(column: pa.Array) -> Iterator[Any]:
    """Yield the images of a column of bytes."""
    reject_nulls(column, "drop the row")
    for row, content in enumerate(column):
        try:
            yield read_image(content.as_py())
        except InputError as error:
            raise InputError(
                f"{which_row('', row)}: cannot be read as an image ({error}); drop the row or write the image again, "
                "as PNG or JPEG"
            ) from error


def trim_padding(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return token ids and their mask without the columns on the right in which every text is padded."""
    longest = int(inputs["attention_mask"].sum(dim=1).max())
    return {name: inputs[name][:, :longest] for name in ("input_ids", "attention_mask")}
