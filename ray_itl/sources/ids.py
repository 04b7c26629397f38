"""Ids of rows: which Arrow types may be ids, what they are in NumPy, and the way back.

Whole numbers are int64, or uint64 where all files have that; everything else is text (numpy's variable-width strings):
a UUID as it is written, bytes as hex, decimals that 64 bits do not hold as their digits.
"""

from __future__ import annotations

import binascii
import decimal
import itertools
import uuid
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError
from ray_itl.sources.schema import WhichRow, place
from ray_itl.sources.types import is_text, plain

IdKind = Literal["int", "uint", "string"]
IdForm = Literal["int", "uint", "decimal", "text", "uuid", "bytes"]
"""How a column stores ids; "decimal": with more digits than int64 is sure to hold."""

_functions: Any = pc  # made as the module is imported, so that no type checker knows them
STRING_ID = np.dtypes.StringDType()
_INT64_MAX = np.iinfo(np.int64).max
_SAFE_DIGITS = 18  # of an int64
_NUMPY: dict[IdKind, np.dtype] = {"int": np.dtype(np.int64), "uint": np.dtype(np.uint64), "string": STRING_ID}
_ARROW = {"int": pa.int64(), "uint": pa.uint64(), "string": pa.string()}
_NUMBERS = ("int", "uint", "decimal")


def id_dtype(kind: IdKind) -> np.dtype:
    """Return the type of ids of a kind in NumPy."""
    return _NUMPY[kind]


def id_arrow_type(kind: IdKind) -> pa.DataType:
    """Return the type of ids of a kind in Arrow."""
    return _ARROW[kind]


def check_id_type(kind: pa.DataType, column: str, file: str, option: str = "id_column") -> IdForm:
    """Return how ids of this Arrow type are stored.

    Raises:
        InputError: it is no type of ids.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return "uuid"
        kind = kind.storage_type
    if pa.types.is_integer(kind):
        return "uint" if pa.types.is_uint64(kind) else "int"
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return "int" if kind.precision <= _SAFE_DIGITS else "decimal"
    if is_text(kind):
        return "text"
    if _is_bytes(kind):
        return "bytes"
    raise InputError(
        f"{place(file)}id column {column!r} has type {kind}, but an id is a whole number, a text, a UUID or bytes; "
        f"cast the column or name another one in {option}"
    )


def id_family(form: IdForm) -> str:
    """Return "int", "string" or "bytes": what files of one pool must have in common."""
    return "int" if form in _NUMBERS else "bytes" if form == "bytes" else "string"


def common_kind(forms: set[IdForm], is_small: Callable[[], bool]) -> IdKind:
    """Return the kind of ids that files of one family store; `is_small` tells whether int64 holds all of them."""
    if forms == {"uint"}:
        return "uint"
    if not forms <= set(_NUMBERS):
        return "string"
    return "int" if "decimal" not in forms or is_small() else "string"


def fits_int64(array: pa.Array) -> bool:
    """Whether int64 holds every whole number of an array of any such type."""
    low, high = _functions.min_max(plain(array)).as_py().values()
    return low is None or (low >= -_INT64_MAX - 1 and high <= _INT64_MAX)


def ids_from_arrow(array: pa.Array, column: str, kind: IdKind, which: WhichRow) -> np.ndarray:
    """Return ids as an array of `id_dtype(kind)`.

    Raises:
        InputError: an id is null, too large, or not valid UTF-8 (names the first such row).
    """
    is_uuid = _is_uuid(array.type)
    array = plain(array)
    if array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise InputError(f"{which(row)}: id column {column!r} is null; give every row an id or drop the row")
    if kind == "string":
        return _strings(_uuid_texts(array) if is_uuid else _texts(array), column, which)
    if pa.types.is_decimal(array.type):
        array = array.cast(id_arrow_type(kind))
    if kind == "int" and pa.types.is_uint64(array.type):
        values = array.to_numpy()
        too_large = np.flatnonzero(values > _INT64_MAX)
        if too_large.size:
            row = int(too_large[0])
            raise InputError(
                f"{which(row)}: id column {column!r} is {values[row]}, beyond the largest 64-bit signed "
                "integer, while other files have signed ids; store all of them as uint64 or as strings"
            )
    return array.to_numpy().astype(id_dtype(kind), copy=False)


def ids_to_arrow(ids: np.ndarray) -> pa.Array:
    """Return ids of any kind as an Arrow array of int64, uint64 or string."""
    return pa.array(ids) if ids.dtype.kind in "iu" else pa.array(ids.tolist(), pa.string())


def given_id(value: Any, kind: IdKind) -> int | str | None:
    """Return an id that a caller holds as the pool has it; None if no id of the pool's kind is such a value.

    A whole number may be a decimal, too; a UUID is one of Python's or its text, bytes are bytes or their hex.
    """
    is_whole = isinstance(value, decimal.Decimal) and value.is_finite() and value == value.to_integral_value()
    if kind != "string":
        if isinstance(value, bool) or not (isinstance(value, int) or is_whole):
            return None
        bounds = np.iinfo(id_dtype(kind))
        return int(value) if bounds.min <= value <= bounds.max else None
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if is_whole:
        return str(int(value))
    return str(value) if isinstance(value, str | uuid.UUID) else None


def id_word(kind: IdKind) -> str:
    """Return what a kind of ids is called, in messages and in identities of runs: "int" or "string"."""
    return "int" if kind == "uint" else kind


def _is_bytes(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks)


def _is_uuid(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return isinstance(kind, pa.BaseExtensionType) and kind.extension_name == "arrow.uuid"


def _texts(array: pa.Array) -> pa.Array:
    """Return ids as text."""
    if not _is_bytes(array.type):
        return array if is_text(array.type) else array.cast(pa.string())
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    values = b"".join(array.to_pylist())
    lengths = _functions.binary_length(array).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]) * 2
    buffers = [pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(binascii.hexlify(values))]
    return pa.LargeStringArray.from_buffers(len(array), *buffers)


def _uuid_texts(array: pa.Array) -> pa.Array:
    """Return 16 bytes each as the text of a UUID: 8-4-4-4-12 hex digits."""
    digits = _texts(array)
    cuts = (0, 8, 12, 16, 20, 32)
    parts = [_functions.utf8_slice_codeunits(digits, a, b) for a, b in itertools.pairwise(cuts)]
    return _functions.binary_join_element_wise(*parts, pa.scalar("-", digits.type))


def _strings(array: pa.Array, column: str, which: WhichRow) -> np.ndarray:
    try:
        return np.array(array.to_pylist(), dtype=STRING_ID)
    except UnicodeDecodeError as error:
        row = next(row for row in range(len(array)) if not _decodes(array[row]))
        raise InputError(
            f"{which(row)}: id column {column!r} is not valid UTF-8; write the ids as UTF-8 strings"
        ) from error


def _decodes(scalar: pa.Scalar) -> bool:
    try:
        scalar.as_py()
    except UnicodeDecodeError:
        return False
    return True
