"""Some of the rows of a source, as a source of their own."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.io.manifest import check_range
from ray_itl.io.positions import check_positions
from ray_itl.io.schema import IdKind
from ray_itl.io.source import PoolSource, RowSource


class _Subset:
    """What rows and embedded rows share."""

    def __init__(self, base: RowSource | PoolSource, positions: np.ndarray) -> None:
        """Take positions in any order; they are sorted, and one listed twice counts once.

        Raises:
            IndexError: a position that the base does not have.
            InputError: no position at all.
        """
        self.positions = np.unique(check_positions(positions, base.num_rows))
        if not self.positions.size:
            raise InputError("no row is left to choose from: name at least one position, or use a larger pool")
        self.num_rows: int = len(self.positions)
        self.id_kind: IdKind = base.id_kind
        self._rows = base

    def base_positions(self, positions: np.ndarray) -> np.ndarray:
        """Return the base's positions of rows at positions here."""
        return self.positions[check_positions(positions, self.num_rows)]

    def take(self, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Return `columns` of the rows at `positions`, in that order."""
        return self._rows.take(self.base_positions(positions), columns)

    def locate(self, positions: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the file of each position and its row in that file, as the base does."""
        return self._rows.locate(self.base_positions(positions))


class SubsetRows(_Subset):
    """Those rows of a base that stand at `positions` (see `RowSource`).

    Position p here is position `positions[p]` of the base; `base_positions` maps back. Files, rows and ids are the
    base's. Pickles as the base and 8 bytes a row.
    """

    def __init__(self, base: RowSource, positions: np.ndarray) -> None:
        """Take positions in any order, each once; IndexError for one out of range, InputError for none."""
        super().__init__(base, positions)
        self._base = base

    def row_batches(self, start: int, stop: int, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        yield from self._base.row_batches_at(self.positions[start:stop], columns)

    def row_batches_at(
        self, positions: np.ndarray, columns: Sequence[str]
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield `(ids, columns)` of the rows at `positions`, which ascend and are distinct."""
        yield from self._base.row_batches_at(self.base_positions(positions), columns)


class SubsetSource(_Subset):
    """Those rows of an embedded base that stand at `positions` (see `PoolSource`); otherwise as `SubsetRows`.

    Embeddings are the base's, bit for bit; reading some costs what `batches_at` of the base costs.
    """

    def __init__(self, base: PoolSource, positions: np.ndarray) -> None:
        """Take positions in any order, each once; IndexError for one out of range, InputError for none."""
        super().__init__(base, positions)
        self.dim: int = base.dim
        self.dtype: np.dtype = base.dtype
        self._base = base

    def batches(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` for positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        yield from self._base.batches_at(self.positions[start:stop])

    def batches_at(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of the rows at `positions`, which ascend and are distinct."""
        yield from self._base.batches_at(self.base_positions(positions))

    def embeddings(self, positions: np.ndarray) -> np.ndarray:
        """Return the `rows x dim` float64 embeddings at `positions`, in that order."""
        return self._base.embeddings(self.base_positions(positions))
