"""Filling shards: rows of a source stream through the feature map straight to where a shard keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.feature_store import FeatureStore, MemoryFeatures, RoomForCopies
from ray_itl.core.features import FeatureMap, Identity
from ray_itl.core.shard import PoolShard
from ray_itl.errors import InputError
from ray_itl.shards.conversion import as_stored, fill_norms, map_rows, serial_rows, shared
from ray_itl.shards.huge_pages import empty_matrix
from ray_itl.shards.reading import Piece, cut, read_pieces
from ray_itl.sources.arrays import ArraySource
from ray_itl.sources.bad_rows import BadRows, Notes
from ray_itl.sources.base import PoolSource
from ray_itl.sources.costs_and_groups import CostGroupColumns, read_costs_and_groups
from ray_itl.sources.ids import id_dtype
from ray_itl.sources.parquet import ParquetSource

STORAGE_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_PIECE_BYTES = 64 << 20
"""Each thread that reads takes 30 to 45 MiB (measured): four together fit the margins of `footprint`."""
_PIECES_PER_THREAD = 4
_MAX_THREADS = 4
_CHUNK_BYTES = 2 << 20


class RowFacts(NamedTuple):
    """What a shard knows of its n rows besides their features."""

    ids: np.ndarray
    """n, int64, uint64 or StringDType."""
    norms: Tensor
    """|x|^2 of the rows as stored, n float64."""


@dataclass(frozen=True)
class RowRange:
    """Rows [start, stop) of a source, at least one, and how a shard holds them."""

    source: PoolSource
    start: int
    stop: int
    feature_map: FeatureMap
    """Applied to every row in float64 before it is rounded to the storage dtype."""
    dtype: torch.dtype
    """Storage dtype. The rounded values are the pool: exactness is stated for them."""
    cost_group_columns: CostGroupColumns | None = None
    """Where costs and groups come from; None: none are needed."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self.feature_map.dim(self.source.dim)

    def load(
        self,
        device: str | torch.device = "cpu",
        on_rows: Callable[[int], None] | None = None,
        bad: BadRows | None = None,
    ) -> PoolShard:
        """Return the rows as a shard in memory.

        Args:
            device: Where the features live. On the CPU those of an array that has the storage dtype already are not
                copied, and never written to; they must not change while the shard is in use.
            on_rows: See `read`.
            bad: See `shard`.

        Raises:
            InputError: as of `read` and `shard`.
        """
        found, on_cpu = BadRows(), torch.device(device).type == "cpu"
        shared_rows = self._share(on_rows) if on_cpu else None
        if shared_rows is not None:
            return self.shard(*shared_rows, found, bad)
        shape = (self.num_rows, self.dim)
        tensor = empty_matrix(*shape, self.dtype) if on_cpu else torch.empty(shape, dtype=self.dtype, device=device)
        facts = self.read(_filler(tensor), on_rows, found)
        return self.shard(MemoryFeatures(tensor), facts, found, bad)

    def shard(
        self,
        features: FeatureStore,
        facts: RowFacts,
        found: BadRows,
        bad: BadRows | None,
        room_for_copies: RoomForCopies | None = None,
    ) -> PoolShard:
        """Return the shard of rows that were read, with their costs and groups where they are needed.

        Args:
            features: Of the rows, zero where they are bad.
            facts: Of the rows.
            found: Bad rows so far; rows of bad costs join them.
            bad: Where bad rows are noted, for a caller that excludes them from what is picked. None: there may be none.
            room_for_copies: Where copies of the rows are kept; None: in memory.

        Raises:
            BadRowsError: there are, and no `bad` (names them).
        """
        spec, costs_and_groups = self.cost_group_columns, None
        if spec is not None:
            costs_and_groups = read_costs_and_groups(self.source, spec, self.start, self.stop, found)
        if bad is not None:
            bad.extend(found)
        elif len(found):
            raise found.refusal(self.source.locate)
        unusable = found.positions - self.start
        return PoolShard(features, facts.ids, self.start, facts.norms, costs_and_groups, unusable, room_for_copies)

    def read(
        self, put: Callable[[slice, Tensor], None], on_rows: Callable[[int], None] | None, bad: BadRows
    ) -> RowFacts:
        """Read all rows.

        Large ranges of Parquet files and arrays are read by as many threads as torch computes with, up to 4, each at
        row groups of its own.

        Args:
            put: Told which of the rows have come (counted from 0), and their features, on the CPU, zero for bad rows,
                not to be written to, and gone once it returns. Called by any thread, also by several at a time, and
                for rows in any order.
            on_rows: Told the number of rows read so far, after every batch.
            bad: Collects bad rows, and those with a feature too large for the storage dtype.

        Raises:
            InputError: files that cannot be read.
        """
        ids = np.empty(self.num_rows, dtype=id_dtype(self.source.id_kind))
        facts = RowFacts(ids, torch.empty(self.num_rows, dtype=torch.float64))
        threads = _num_threads()
        pieces = self._pieces(threads)
        found = {piece: BadRows() for piece in pieces}
        read_pieces(
            pieces, lambda piece, came: self._read(piece, put, facts, found[piece], came), threads, on_rows or _no_one
        )
        for rows in found.values():
            bad.extend(rows)
        return facts

    def _read(
        self,
        piece: Piece,
        put: Callable[[slice, Tensor], None],
        facts: RowFacts,
        bad: BadRows,
        came: Callable[[int], None],
    ) -> None:
        """Read some of the rows, in order."""
        filled = piece.start - self.start
        for batch_ids, batch in self.source.batches(piece.start, piece.stop, bad):
            features, norms = as_stored(self.feature_map, batch, self.dtype)
            # What is not finite has no finite norm.
            if not np.isfinite(norms.numpy()).all():
                sound = torch.isfinite(features).all(dim=1)
                too_large = np.flatnonzero(~sound.numpy() & np.isfinite(batch).all(axis=1))
                words = dict.fromkeys(too_large.tolist(), _overflow(self.dtype))
                Notes(bad, self.start + filled).add_all(words, batch_ids)
                features = features.masked_fill(~sound[:, None], 0.0)
                norms[~sound] = 0.0
            rows = slice(filled, filled + len(features))
            put(rows, features)
            facts.ids[rows], facts.norms[rows] = batch_ids, norms
            filled = rows.stop
            came(len(features))

    def _pieces(self, num_threads: int) -> list[Piece]:
        """Return the parts of the rows that threads read, one where there are too few rows for several."""
        # What a row's features are in other company must not depend on where rows are cut.
        if num_threads == 1 or not self.feature_map.is_rowwise:
            return [Piece(self.start, self.stop)]
        cuts: Sequence[int] = []
        if isinstance(self.source, ParquetSource):
            cuts = self.source.cuts(self.start, self.stop)
        elif isinstance(self.source, ArraySource):
            cuts = range(self.start, self.stop, self._rows_a_piece)
        least = max(self._rows_a_piece, self.num_rows // (_PIECES_PER_THREAD * num_threads))
        return cut(self.start, self.stop, cuts, least)

    def _share(self, on_rows: Callable[[int], None] | None) -> tuple[MemoryFeatures, RowFacts] | None:
        """Return the rows of an array as they stand in it, if they are as the shard is to hold them, and sound."""
        if not (isinstance(self.source, ArraySource) and isinstance(self.feature_map, Identity)):
            return None
        rows = self.source.view(self.start, self.stop)
        if rows is None or shared(rows[:0]).dtype != self.dtype:
            return None
        features, norms = shared(rows), torch.empty(self.num_rows, dtype=torch.float64)
        step = serial_rows(self.dim, max(1, _CHUNK_BYTES // (self.dim * self.dtype.itemsize)))

        def sum_up(piece: Piece, came: Callable[[int], None]) -> None:
            fill_norms(features[slice(*piece)], norms[slice(*piece)], step)
            came(piece.stop - piece.start)

        pieces = cut(0, self.num_rows, range(0, self.num_rows, self._rows_a_piece), self._rows_a_piece)
        read_pieces(pieces, sum_up, _num_threads(), on_rows or _no_one)
        # Where some are not they are noted, and zero, in a copy.
        if not np.isfinite(norms.numpy()).all():
            return None
        return MemoryFeatures(features), RowFacts(self.source.ids(self.start, self.stop), norms)

    @property
    def _rows_a_piece(self) -> int:
        return -(-_PIECE_BYTES // (self.dim * self.dtype.itemsize))


def load_shard(
    source: PoolSource,
    start: int,
    stop: int,
    feature_map: FeatureMap,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    on_rows: Callable[[int], None] | None = None,
) -> PoolShard:
    """Load rows [start, stop) of a source as a shard in memory; see `RowRange`.

    Args:
        source: Where the rows are.
        start: First position.
        stop: One past the last position.
        feature_map: Applied to every row.
        dtype: Storage dtype.
        device: Where the features live.
        on_rows: Told the number of rows read so far, after every batch.

    Raises:
        InputError: unreadable or bad rows, or a feature too large for the storage dtype (names file and row).
    """
    return RowRange(source, start, stop, feature_map, dtype).load(device, on_rows)


def rows_as_stored(feature_map: FeatureMap, rows: np.ndarray, dtype: str) -> Tensor:
    """Return the features of embedding rows as shards hold them, rounded to a storage dtype, in float64."""
    return map_rows(feature_map, rows).to(STORAGE_DTYPES[dtype]).to(torch.float64)


def repeated_id_error(source: PoolSource, repeated: int | str, positions: np.ndarray) -> InputError:
    """Return the error for an id that stands at several positions."""
    files, rows = source.locate(positions[:2])
    where = " and ".join(f"{file or 'the pool'} row {row}" for file, row in zip(files, rows.tolist(), strict=True))
    return InputError(
        f"row id {repeated!r} occurs more than once ({where}); ids must be unique over the whole pool: "
        "remove the duplicate rows or choose another pool.id_column"
    )


def _filler(tensor: Tensor) -> Callable[[slice, Tensor], None]:
    """Return what copies features (on the CPU) to some rows of a tensor."""
    if tensor.device.type != "cpu":
        return tensor.__setitem__
    space = tensor.view(torch.uint8).numpy()  # copied by the calling thread alone, and NumPy knows no bfloat16

    def put(rows: slice, features: Tensor) -> None:
        space[rows] = features.view(torch.uint8).numpy()

    return put


def _num_threads() -> int:
    return min(torch.get_num_threads(), _MAX_THREADS)


def _no_one(_: int) -> None:
    pass


def _overflow(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    remedy = "scale the embeddings" if dtype == torch.float64 else "set pool.dtype=float32 (or float64)"
    return f"a feature is too large for {name}; {remedy}, or pool.features=unit_norm"
