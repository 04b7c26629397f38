"""Arrow types that mean the same: read as one, widened to one, and cast.

Writers store a text as string, large_string, string_view or a dictionary of it; numbers in the width at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError

_functions: Any = pc  # made as the module is imported, so that no type checker knows them
_VIEWS: dict[pa.DataType, pa.DataType] = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of lists."""
    return (
        pa.types.is_fixed_size_list(kind)
        or pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return a type without dictionaries, views and extensions, at any depth: what its values are."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind.fields])
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if is_list(kind):
        item = kind.value_field.with_type(plain_type(kind.value_type))
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(item, kind.list_size)
        large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
        return pa.large_list(item) if large else pa.list_(item)
    return _VIEWS.get(kind, kind)


def carried_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column of this type is handed on: views, which few functions take, are undone."""
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, plain_type(kind.value_type), kind.ordered)
    return kind if isinstance(kind, pa.BaseExtensionType) else plain_type(kind)


def plain(array: Any) -> Any:
    """Return an array or chunked array without dictionaries, views and extensions."""
    return cast(array, plain_type(array.type))


def cast(array: Any, kind: pa.DataType) -> Any:
    """Return an array or chunked array as another type.

    Raises:
        pyarrow.ArrowException: a value is not of that type, or would lose something by it.
    """
    if array.type == kind:
        return array
    if isinstance(array, pa.ChunkedArray):
        return pa.chunked_array([cast(chunk, kind) for chunk in array.chunks], kind)
    if isinstance(array, pa.DictionaryArray) and not pa.types.is_dictionary(kind):
        return cast(array.dictionary_decode(), kind)
    if isinstance(array, pa.ExtensionArray):
        return cast(array.storage, kind)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pa.types.is_dictionary(kind) and not isinstance(array, pa.DictionaryArray):
        return cast(array, kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
        array = without_view(array)
    return array.cast(kind)


def without_view(array: pa.Array) -> pa.Array:
    """Return an array of list views as one of lists; Arrow's own cast leaves out the last offset."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(list_lengths(array))]), pa.int64())
    mask = array.is_null() if array.null_count else None
    return pa.LargeListArray.from_arrays(offsets, array.flatten(), mask=mask)


def list_lengths(array: pa.Array) -> np.ndarray:
    """Return the length of every list of an array, 0 for a null."""
    return _functions.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)


def common_type(found: Sequence[tuple[str, pa.DataType]], column: str, option: str) -> pa.DataType:
    """Return the one type that holds the values of a column in all files, text and category alike being text.

    Args:
        found: (file, its type), at least one.
        column: The name of the column.
        option: The option that asks for it.

    Raises:
        InputError: there is none (names two files with their types).
    """
    kinds: dict[pa.DataType, str] = {}
    for file, kind in found:
        kinds.setdefault(kind, file)
    if len(kinds) == 1:
        return carried_type(found[0][1])
    result = pa.null()
    for kind in kinds:
        wider = _wider(result, plain_type(kind))
        if wider is None:
            raise _clash(kinds, kind, column, option)
        result = wider
    for kind in kinds:
        if not _casts(kind, result):
            raise _clash(kinds, kind, column, option)
    return result


def _clash(kinds: Mapping[pa.DataType, str], kind: pa.DataType, column: str, option: str) -> InputError:
    """Return the error for a type that does not go with one of the others."""
    others = [other for other in kinds if other != kind]
    other = next((other for other in others if _wider(plain_type(other), plain_type(kind)) is None), others[0])
    return InputError(
        f"file {kinds[kind]!r}: column {column!r} is of type {kind}, but in file {kinds[other]!r} of type {other}, and "
        f"no type holds both; rewrite the files with one type, or leave the column out of {option}"
    )


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return the narrowest type that holds the values of both; None if there is none."""
    both = (first, second)
    if any(map(pa.types.is_decimal, both)):
        if any(map(pa.types.is_floating, both)):
            return pa.float64()
        if all(pa.types.is_decimal(kind) or pa.types.is_integer(kind) for kind in both):
            return _wider_decimal(*map(_digits, both))
    if all(map(pa.types.is_timestamp, both)) and first.tz and second.tz and first.tz != second.tz:
        both = tuple(pa.timestamp(kind.unit, "UTC") for kind in both)  # the same instants
    if any(map(pa.types.is_date, both)) and any(pa.types.is_timestamp(kind) and kind.tz is None for kind in both):
        return first if pa.types.is_timestamp(first) else second  # a date is its midnight
    if is_text(first) != is_text(second) and not any(map(pa.types.is_null, both)):
        return None  # Arrow would make bytes of text
    try:
        schemas = [pa.schema([("", kind)]) for kind in both]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _digits(kind: pa.DataType) -> tuple[int, int]:
    """Return the digits before and after the point of a decimal or whole number."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return {8: 3, 16: 5, 32: 10, 64: 20 if pa.types.is_uint64(kind) else 19}[kind.bit_width], 0


def _wider_decimal(first: tuple[int, int], second: tuple[int, int]) -> pa.DataType | None:
    before, after = map(max, zip(first, second, strict=True))
    digits = before + after
    return pa.decimal128(digits, after) if digits <= 38 else pa.decimal256(digits, after) if digits <= 76 else None


def _casts(kind: pa.DataType, other: pa.DataType) -> bool:
    try:
        cast(pa.nulls(0, kind), other)
    except pa.ArrowException:
        return False
    return True
