"""Values of a column: by which keys they are compared, in the column's type, and how they are shown.

A *key* stands for a value: two values of a column are the same if and only if their keys are. Keys are plain Python
(true or false, numbers, text, bytes; dates and times as whole numbers of the type's unit; None for a missing value), so
they travel anywhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.sources.types import is_text

Key = bool | int | float | Decimal | str | bytes | None
NAN = "nan"
"""The key of the float that equals nothing, not even itself."""
MISSING = "null"
"""How a missing value is shown."""


class UnfitValueError(Exception):
    """A value that a column cannot hold: why, in words."""


def comparable_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which values of a type are compared; None where they cannot be told apart (lists, structs).

    Encodings (dictionaries, runs, views, large offsets) make no difference, nor do zones: instants are compared.
    """
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return comparable_type(kind.value_type)
    if is_uuid(kind):
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return comparable_type(kind.storage_type)
    if is_text(kind):
        return pa.string()
    if is_bytes(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind):
        return pa.timestamp(kind.unit, None if kind.tz is None else "UTC")
    if pa.types.is_date(kind):
        return pa.date32()
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_time)
    return kind if pa.types.is_null(kind) or any(test(kind) for test in plain) else None


def joined_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the comparable type that holds the values of two; None where there is none."""
    if is_text(one) != is_text(other) and not (pa.types.is_null(one) or pa.types.is_null(other)):
        return None  # Arrow would make bytes of text
    schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is one of bytes."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def is_uuid(kind: pa.DataType) -> bool:
    """Whether a type is Arrow's of UUIDs, which pyarrow knows by name since 18."""
    return isinstance(kind, pa.BaseExtensionType) and getattr(kind, "extension_name", "") == "arrow.uuid"


def plain_array(array: pa.Array) -> pa.Array:
    """Return an array without its encoding and, but for UUIDs, its extension: of a type that Arrow computes with."""
    if isinstance(array, pa.DictionaryArray):
        return plain_array(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(array.type):
        return plain_array(pc.call_function("run_end_decode", [array]))
    if isinstance(array, pa.ExtensionArray):
        return array.storage if is_uuid(array.type) else plain_array(array.storage)
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array


def keys_of(array: pa.Array, kind: pa.DataType) -> list[Key]:
    """Return the key of every value of an array, as values of a comparable type that holds them.

    Raises:
        UnfitValueError: a value that the type cannot hold, or text that is no UTF-8.
    """
    array = plain_array(array)
    try:
        if is_bytes(array.type):
            return [None if value is None else bytes(value) for value in array.to_pylist()]
        if array.type == pa.float16():  # for which Arrow has few casts
            array = array.cast(pa.float32())
        wider = pa.float32() if kind == pa.float16() else kind
        array = array.cast(wider)
        storage = _storage(wider)
        values = (array if storage is None else array.cast(storage)).to_pylist()
    except pa.ArrowException as error:
        raise UnfitValueError(f"values of type {array.type} are no values of type {kind}: {error}") from error
    except UnicodeDecodeError as error:
        raise UnfitValueError("a text is not valid UTF-8") from error
    return [float_key(value) for value in values] if pa.types.is_floating(kind) else values


def distinct(array: pa.Array, kind: pa.DataType) -> tuple[list[Key], np.ndarray]:
    """Return the keys of an array's distinct values, and for each of its values the place of its key: int64."""
    encoded = plain_array(array).dictionary_encode(null_encoding="encode")
    return keys_of(encoded.dictionary, kind), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _storage(kind: pa.DataType) -> pa.DataType | None:
    """Return the whole numbers by which dates and times are compared; None for other types."""
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(kind) or pa.types.is_time64(kind) else None


def float_key(value: float | None) -> Key:
    """Return the key of a float: NaN is one value, and -0.0 is 0.0."""
    if value is None:
        return None
    return NAN if value != value else value + 0.0


def labels_of(keys: Sequence[Key], kind: pa.DataType) -> list[str]:
    """Return how values are shown: text as it is (but 'null', in quotes), others as they would be written."""
    if pa.types.is_null(kind):
        return [MISSING] * len(keys)
    if is_text(kind):
        return [_text_label(key) for key in keys]
    if is_uuid(kind) or is_bytes(kind):
        show = (lambda key: str(uuid.UUID(bytes=key))) if is_uuid(kind) else _bytes_label
        return [MISSING if key is None else show(key) for key in keys]
    if pa.types.is_floating(kind):
        number = kind.to_pandas_dtype()
        return [MISSING if key is None else _float_label(number(key), kind) for key in keys]
    storage = _storage(kind)
    values = pa.array(keys, storage or kind)
    texts = (values if storage is None else values.cast(kind)).cast(pa.string())
    return texts.fill_null(MISSING).to_pylist()


def _text_label(key: Key) -> str:
    if key is None:
        return MISSING
    return f"'{key}'" if key == MISSING else str(key)


def _bytes_label(key: bytes) -> str:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and text and not text.startswith("0x") else f"0x{key.hex()}"


def _float_label(value: Any, kind: pa.DataType) -> str:
    return str(value) if kind == pa.float16() else pa.array([value], kind).cast(pa.string())[0].as_py()
