"""Finding the columns of a pool, and the turning of Arrow columns into matrices.

Small steps that every source shares are here as well: naming rows, checking positions, gathering chunks into a matrix.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.errors import InputError
from ray_itl.io.image_files import is_image_folder
from ray_itl.sources.types import is_list, list_lengths, without_view

_MAX_NAMES, _MAX_NAME = 30, 80
_SAMPLE_ROWS = 256
_MAX_COMPARED = 1000

WhichRow = Callable[[int], str]
"""Maps a row of the array at hand to words for a message: "file 'a.parquet', row 17 (counting from 0)"."""


class MissingColumnError(InputError):
    """Rows have no column of a name, or several."""


class EmbeddingType(NamedTuple):
    """Type of an embedding column: element type, and the dimension when the schema alone fixes it."""

    dtype: np.dtype
    dim: int | None


def which_row(file: str, row: int) -> str:
    """Word one row: the file (or the in-memory pool when `file` is "") and the row within it."""
    if is_image_folder(file):
        return f"folder {file!r}, image {row} (by name, counting from 0)"
    return f"file {file!r}, row {row} (counting from 0)" if file else f"row {row} (counting from 0)"


def find_column(schema: pa.Schema, column: str, option: str, file: str, further: Sequence[str] = ()) -> pa.Field:
    """Return the one field named `column`.

    Raises:
        MissingColumnError: there is none, or several (lists the columns there are, and the `further` ones that are not
            in the file, with the nearest, and names the `option`).
    """
    found = schema.get_all_field_indices(column)
    if len(found) == 1:
        return schema.field(found[0])
    names = list(dict.fromkeys([*schema.names, *further]))
    problem = (
        f"no column {column!r}{_nearest(column, names)}" if not found else f"{len(found)} columns named {column!r}"
    )
    raise MissingColumnError(
        f"{place(file)}{problem}; the columns are {name_columns(names)}; set {option} to one of them"
    )


def _nearest(column: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(column, names[:_MAX_COMPARED], cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def name_columns(names: Sequence[str]) -> str:
    """Word a list of columns, cut short where there are many or their names are long."""
    shown = [name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…" for name in names[:_MAX_NAMES]]
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(shown) + more if shown else "(none)"


def check_embedding_type(kind: pa.DataType, column: str, file: str, option: str = "embedding_column") -> EmbeddingType:
    """Return element type and dimension of an embedding column.

    Accepted are lists of float16, float32 or float64 of any type of lists, lists of one such list each (a 1 x D
    matrix), tensors of one dimension that is not 1, and other extension types stored as one of these.

    Raises:
        InputError: it is something else, or of dimension 0.
    """
    is_flat = not isinstance(kind, pa.FixedShapeTensorType) or max(kind.shape, default=1) == int(np.prod(kind.shape))
    values, dim = _storage(kind), None
    while is_list(values):
        fixed = values.list_size if pa.types.is_fixed_size_list(values) else None
        values = _storage(values.value_type)
        if not is_list(values):
            dim = fixed
        elif fixed is not None and fixed != 1:
            is_flat = False
    if not is_list(_storage(kind)) or not pa.types.is_floating(values) or not is_flat:
        raise InputError(
            f"{place(file)}embedding column {column!r} has type {kind}, but an embedding is a list of "
            f"float16, float32 or float64; cast the column or name another one in {option}"
        )
    if dim is not None and dim < 1:
        raise InputError(f"{place(file)}embedding column {column!r} has dimension 0; write real embeddings")
    return EmbeddingType(np.dtype(values.to_pandas_dtype()), dim)


def embedding_rows(array: pa.Array, dim: int, column: str, which: WhichRow) -> np.ndarray:
    """Return the `rows x dim` matrix in an embedding array, without a copy, in its own float type.

    The result shares Arrow's memory and may be read-only. Slices are respected.

    Raises:
        InputError: a row is null, is no single list, has another length than `dim`, or holds a null, NaN or infinity
            (names the first).
    """
    array = _single_lists(array, column, which)
    _check_lengths(array, dim, column, which)
    flat = array.flatten()
    if flat.null_count:
        row = pc.index(flat.is_null(), True).as_py() // dim
        raise InputError(f"{which(row)}: column {column!r} holds a null element; drop the row or embed it again")
    rows = flat.to_numpy(zero_copy_only=True).reshape(len(array), dim)
    check_finite(rows, column, which)
    return rows


def _single_lists(array: pa.Array, column: str, which: WhichRow) -> pa.Array:
    """Return one list of numbers for each row, out of the lists of one list that it may stand in."""
    while True:
        array = array.storage if isinstance(array, pa.ExtensionArray) else array
        if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
            array = without_view(array)
        if array.null_count:
            row = pc.index(array.is_null(), True).as_py()
            raise InputError(f"{which(row)}: column {column!r} is null; drop the row or embed it")
        if not is_list(_storage(array.type.value_type)):
            return array
        lengths = list_lengths(array)
        wrong = np.flatnonzero(lengths != 1)
        if wrong.size:
            row = int(wrong[0])
            raise InputError(
                f"{which(row)}: column {column!r} holds {lengths[row]} lists; an embedding is one list of numbers, so "
                "flatten the column or embed the row again"
            )
        array = array.flatten()


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def usual_dim(array: pa.Array, column: str, file: str) -> int:
    """Return the commonest dimension of the first rows of an embedding array, the first of several as common.

    Raises:
        InputError: all rows are null or empty, or no single lists.
    """
    lengths: Counter[int] = Counter()
    problem = f"{which_row(file, 0)}: column {column!r} has no numbers; drop the row or embed it"
    for row in reversed(range(min(len(array), _SAMPLE_ROWS))):
        try:
            length = len(_single_lists(array.slice(row, 1), column, lambda _, row=row: which_row(file, row)).flatten())
        except InputError as error:
            problem = str(error)
        else:
            lengths[length] += 1 if length else 0
    if not lengths.total():
        raise InputError(problem)
    most = max(lengths.values())
    return next(length for length in reversed(lengths) if lengths[length] == most)


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


def place(file: str) -> str:
    """Return how a message about a file begins; "" for rows in memory."""
    what = "folder" if is_image_folder(file) else "file"
    return f"{what} {file!r}: " if file else ""
