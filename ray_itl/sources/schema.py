"""What the columns of a pool may be, and the turning of Arrow columns into ids and matrices.

Ids are int64 or numpy's variable-width strings. Small steps that every source shares are here as well: naming rows,
checking positions, gathering chunks into a matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError

IdKind = Literal["int", "string"]

_MAX_NAMES, _MAX_NAME = 30, 80
_SAMPLE_ROWS = 256

WhichRow = Callable[[int], str]
"""Maps a row of the array at hand to words for a message: "file 'a.parquet', row 17 (counting from 0)"."""
STRING_ID = np.dtypes.StringDType()
_INT64_MAX = np.iinfo(np.int64).max


class EmbeddingType(NamedTuple):
    """Type of an embedding column: element type, and the dimension when the schema alone fixes it."""

    dtype: np.dtype
    dim: int | None


def which_row(file: str, row: int) -> str:
    """Word one row: the file (or the in-memory pool when `file` is "") and the row within it."""
    return f"file {file!r}, row {row} (counting from 0)" if file else f"row {row} (counting from 0)"


def find_column(schema: pa.Schema, column: str, option: str, file: str) -> pa.Field:
    """Return the one field named `column`.

    Raises:
        InputError: there is none, or several (lists the columns there are, and names the `option`).
    """
    found = schema.get_all_field_indices(column)
    if len(found) == 1:
        return schema.field(found[0])
    problem = "no column" if not found else f"{len(found)} columns named"
    raise InputError(
        f"{_place(file)}{problem} {column!r}; the columns are {name_columns(schema.names)}; set {option} to one of them"
    )


def name_columns(names: Sequence[str]) -> str:
    """Word a list of columns, cut short where there are many or their names are long."""
    shown = [name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…" for name in names[:_MAX_NAMES]]
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(shown) + more if shown else "(none)"


def check_id_type(kind: pa.DataType, column: str, file: str) -> IdKind:
    """Return whether ids of this Arrow type are integers or strings.

    Raises:
        InputError: they are neither.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return "int"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    raise InputError(
        f"{_place(file)}id column {column!r} has type {kind}, but an id is an integer or a string; "
        "cast the column or name another one in id_column"
    )


def check_embedding_type(kind: pa.DataType, column: str, file: str) -> EmbeddingType:
    """Return element type and dimension of an embedding column.

    Accepted are lists of float16, float32 or float64: fixed_size_list, list, large_list, and extension types stored as
    one of these (a fixed shape tensor only of rank 1).

    Raises:
        InputError: it is something else, or of dimension 0.
    """
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    is_tensor = isinstance(kind, pa.FixedShapeTensorType)
    fixed = pa.types.is_fixed_size_list(storage)
    is_list = fixed or pa.types.is_list(storage) or pa.types.is_large_list(storage)
    if not is_list or not pa.types.is_floating(storage.value_type) or (is_tensor and len(kind.shape) != 1):
        raise InputError(
            f"{_place(file)}embedding column {column!r} has type {kind}, but an embedding is a list of "
            "float16, float32 or float64; cast the column or name another one in embedding_column"
        )
    if fixed and storage.list_size < 1:
        raise InputError(f"{_place(file)}embedding column {column!r} has dimension 0; write real embeddings")
    return EmbeddingType(np.dtype(storage.value_type.to_pandas_dtype()), storage.list_size if fixed else None)


def embedding_rows(array: pa.Array, dim: int, column: str, which: WhichRow) -> np.ndarray:
    """Return the `rows x dim` matrix in an embedding array, without a copy, in its own float type.

    The result shares Arrow's memory and may be read-only. Slices are respected.

    Raises:
        InputError: a row is null, has another length than `dim`, or holds a null, NaN or infinity (names the first).
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise InputError(f"{which(row)}: column {column!r} is null; drop the row or embed it")
    _check_lengths(array, dim, column, which)
    flat = array.flatten()
    if flat.null_count:
        row = pc.index(flat.is_null(), True).as_py() // dim
        raise InputError(f"{which(row)}: column {column!r} holds a null element; drop the row or embed it again")
    rows = flat.to_numpy(zero_copy_only=True).reshape(len(array), dim)
    check_finite(rows, column, which)
    return rows


def usual_dim(array: pa.Array, column: str, file: str) -> int:
    """Return the commonest dimension of the first rows of an embedding array, the first of several as common.

    Raises:
        InputError: all rows are null or empty.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    lengths = Counter(len(value) for value in array[:_SAMPLE_ROWS] if value.is_valid and len(value))
    if not lengths:
        problem = "has no numbers" if array[0].is_valid else "is null"
        raise InputError(f"{which_row(file, 0)}: column {column!r} {problem}; drop the row or embed it")
    return lengths.most_common(1)[0][0]


def check_finite(rows: np.ndarray, column: str, which: WhichRow) -> None:
    """Check that every number of a `rows x dim` matrix is finite.

    Raises:
        InputError: one is NaN or infinite (names the first such row).
    """
    finite = np.isfinite(rows)
    if not finite.all():
        row = int(np.argmin(finite.all(axis=1)))
        value = "NaN" if np.isnan(rows[row]).any() else "infinity"
        raise InputError(f"{which(row)}: column {column!r} holds {value}; drop the row or embed it again")


def ids_from_arrow(array: pa.Array, column: str, kind: IdKind, which: WhichRow) -> np.ndarray:
    """Return ids as an int64 array (`kind` "int") or a StringDType array ("string").

    Dictionary encoding is decoded.

    Raises:
        InputError: an id is null, exceeds int64, or is not valid UTF-8 (names the first such row).
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


def check_positions(positions: np.ndarray, num_rows: int) -> np.ndarray:
    """Return positions as an int64 vector.

    Raises:
        IndexError: one is not within `0 <= position < num_rows`.
    """
    checked = np.asarray(positions, dtype=np.int64).reshape(-1)
    if checked.size and not 0 <= checked.min() <= checked.max() < num_rows:
        raise IndexError(f"positions {checked.min()} to {checked.max()} are not all within a pool of {num_rows} rows")
    return checked


def embedding_matrix(chunks: Sequence[pa.Array], dim: int, name: str, which: WhichRow) -> np.ndarray:
    """Return a checked `rows x dim` float64 copy of an embedding column's chunks (see `embedding_rows`)."""
    matrix = np.empty((sum(map(len, chunks)), dim))
    row = 0
    for chunk in chunks:
        matrix[row : row + len(chunk)] = embedding_rows(chunk, dim, name, lambda i, base=row: which(base + i))
        row += len(chunk)
    return matrix


def _check_lengths(array: pa.Array, dim: int, column: str, which: WhichRow) -> None:
    if pa.types.is_fixed_size_list(array.type):
        wrong = np.zeros(1, np.int64) if len(array) and array.type.list_size != dim else np.empty(0, np.int64)
        lengths = np.array([array.type.list_size])
    else:
        lengths = np.diff(array.offsets.to_numpy())
        wrong = np.flatnonzero(lengths != dim)
    if wrong.size:
        row = int(wrong[0])
        raise InputError(
            f"{which(row)}: column {column!r} has {lengths[row]} numbers where the pool has {dim}; every row "
            "needs the same dimension, so embed the pool with one model"
        )


def _place(file: str) -> str:
    return f"file {file!r}: " if file else ""


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
