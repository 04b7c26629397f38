"""Row ids between Arrow and numpy: int64, or numpy's variable-width strings."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError
from ray_itl.io.schema import IdKind, WhichRow

STRING_ID = np.dtypes.StringDType()
_INT64_MAX = np.iinfo(np.int64).max


def ids_from_arrow(array: pa.Array, column: str, kind: IdKind, which: WhichRow) -> np.ndarray:
    """Return ids as an int64 array (`kind` "int") or a StringDType array ("string").

    Dictionary encoding is decoded. InputError names the first row whose id is null, exceeds int64, or
    is not valid UTF-8.
    """
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise InputError(f"{which(row)}: id column {column!r} is null; give every row an id or drop the row")
    if kind == "string":
        return _strings(array, column, which)
    if pa.types.is_uint64(array.type):
        values = array.to_numpy()
        too_large = np.flatnonzero(values > _INT64_MAX)
        if too_large.size:
            row = int(too_large[0])
            raise InputError(
                f"{which(row)}: id column {column!r} is {values[row]}, beyond the largest 64-bit signed "
                "integer; store such ids as strings"
            )
    return array.to_numpy().astype(np.int64, copy=False)


def ids_to_arrow(ids: np.ndarray) -> pa.Array:
    """Return int64 ids as an Arrow int64 array, StringDType ids as an Arrow string array."""
    return pa.array(ids, pa.int64()) if ids.dtype.kind in "iu" else pa.array(ids.tolist(), pa.string())


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
