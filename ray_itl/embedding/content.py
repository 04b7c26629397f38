"""What a row holds, as 128 bits: rows of equal keys are embedded once, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_KEY_BYTES = 16
BLANK, MISSING = "is blank", "is null"
KEY = np.dtype((np.uint64, 2))


def keys_of(column: pa.Array) -> np.ndarray:
    """Return the key of each of n values, n x 2 uint64: a BLAKE2b of the bytes in it.

    Texts are their UTF-8, whatever type of text holds them. A struct with a field `bytes` (an image with its path) is
    those bytes. Any other value is what Python makes of it. Nulls have keys without meaning.
    """
    values = _plain(column)
    if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
        values = values.field("bytes")
    is_text = _is_text(values.type)
    if is_text or _is_bytes(values.type):
        parts: Iterable[bytes | memoryview] = _slices(values.cast(pa.large_binary()))
    else:
        parts = (repr(value.as_py()).encode() for value in values)
    person = b"text" if is_text else b"bytes" if _is_bytes(values.type) else b"value"
    digests = b"".join([blake2b(part, digest_size=_KEY_BYTES, person=person).digest() for part in parts])
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)


def unusable(column: pa.Array) -> dict[int, str]:
    """Return which values hold nothing that could be embedded, nulls and blank texts, each with what it is."""
    found = dict.fromkeys(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist(), MISSING)
    values = _plain(column)
    if _is_text(values.type):
        trimmed = pc.call_function("utf8_trim_whitespace", [values])
        blank = pc.call_function("equal", [pc.call_function("binary_length", [trimmed]), 0]).fill_null(False)
        found |= dict.fromkeys(np.flatnonzero(blank.to_numpy(zero_copy_only=False)).tolist(), BLANK)
    return found


def _plain(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    is_view = pa.types.is_binary_view(kind)
    return is_view or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _slices(values: pa.Array) -> Iterator[memoryview]:
    """Yield the bytes of each value of large binary, without copying them."""
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64, count=len(values) + 1, offset=8 * values.offset).tolist()
    view = memoryview(b"" if data is None else data)
    return (view[begin:end] for begin, end in pairwise(ends))
