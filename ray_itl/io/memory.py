"""Pools that are arrays in memory: numpy or torch."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch

from ray_itl.errors import InputError
from ray_itl.io.ids import STRING_ID, ids_from_arrow
from ray_itl.io.manifest import check_range
from ray_itl.io.positions import check_positions
from ray_itl.io.schema import IdKind, check_finite, check_id_type, which_row

_FLOATS = (np.float16, np.float32, np.float64)
_BATCH_BYTES = 2 << 20


class ArraySource:
    """Rows of a `rows x dim` float array or tensor (see `PoolSource`); pickles with all its data.

    The array is shared, not copied, if it is C-contiguous and on the CPU; bfloat16 becomes float32.
    `ids` are distinct integers or strings, one per row; without them a row's id is its position.
    """

    def __init__(
        self,
        embeddings: np.ndarray | torch.Tensor,
        ids: np.ndarray | Sequence[int] | Sequence[str] | None = None,
    ):
        """InputError unless `embeddings` is a non-empty float matrix with one of `ids` per row."""
        self._rows = _float_matrix(embeddings)
        self.num_rows, self.dim = self._rows.shape
        self.dtype: np.dtype = self._rows.dtype
        self._given_ids = None if ids is None else _id_array(ids, self.num_rows)
        is_string = self._given_ids is not None and self._given_ids.dtype == STRING_ID
        self.id_kind: IdKind = "string" if is_string else "int"

    def batches(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` views for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        step = max(1, _BATCH_BYTES // (self.dim * self.dtype.itemsize))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            rows = self._rows[first:last]
            check_finite(rows, "embedding", lambda i, base=first: which_row("", base + i))
            yield np.arange(first, last) if self._given_ids is None else self._given_ids[first:last], rows

    def batches_at(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        positions = check_positions(positions, self.num_rows)
        step = max(1, _BATCH_BYTES // (self.dim * self.dtype.itemsize))
        for first in range(0, len(positions), step):
            some = positions[first : first + step]
            rows = self._rows[some]
            check_finite(rows, "embedding", lambda i, some=some: which_row("", int(some[i])))
            yield some if self._given_ids is None else self._given_ids[some], rows

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:  # noqa: ARG002 - part of PoolSource
        """InputError if any column is asked for: an array has none."""
        if columns:
            raise InputError(
                f"columns {', '.join(columns)} were asked for, but an array has no columns; hand over a "
                "pyarrow.Table or Parquet files, or leave columns empty"
            )
        return pa.table({})

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        checked = check_positions(positions, self.num_rows)
        rows = self._rows[checked].astype(np.float64)
        check_finite(rows, "embedding", lambda i: which_row("", int(checked[i])))
        return rows

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return "" and the position itself for each position."""
        checked = check_positions(positions, self.num_rows)
        return [""] * len(checked), checked


def _float_matrix(embeddings: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(embeddings, torch.Tensor):
        tensor = embeddings.detach().cpu()
        embeddings = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if embeddings.ndim != 2 or embeddings.dtype not in _FLOATS:
        raise InputError(
            f"the array has shape {embeddings.shape} and type {embeddings.dtype}; embeddings are a rows x "
            "dim matrix of float16, float32 or float64, so reshape or cast it"
        )
    if 0 in embeddings.shape:
        raise InputError(f"the array has shape {embeddings.shape}, so it holds nothing; hand over some rows")
    return np.ascontiguousarray(embeddings)


def _id_array(ids: np.ndarray | Sequence[int] | Sequence[str], num_rows: int) -> np.ndarray:
    if len(ids) != num_rows:
        raise InputError(f"there are {len(ids)} ids for {num_rows} rows; give one id per row")
    try:
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
            array = pa.array(ids)
        else:
            array = pa.array(ids.tolist() if isinstance(ids, np.ndarray) else list(ids))
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"ids are not all 64-bit integers or all strings: {error}; cast them") from error
    kind = check_id_type(array.type, "ids", "")
    return ids_from_arrow(array, "ids", kind, lambda i: which_row("", i))
