"""Synthetic pools that resemble embeddings: clusters, a power-law spectrum, unit norm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ray_itl.io.atomic import write_atomic, write_parquet_table

_CHUNK = 100_000
_CLUSTERS = 200
_TARGET_CLUSTERS = 10
_SPREAD = 0.7


class ClusteredRows:
    """Rows c_k + 0.7 e, scaled to norm 1, with c_k and e Gaussian of variance 1/j in dimension j, from 200 clusters.

    Targets come from ten of the clusters.
    """

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self.seed = seed
        self._scale = torch.arange(1, dim + 1, dtype=torch.float32) ** -0.5
        self._centres = torch.randn(_CLUSTERS, dim, generator=self._generator(0)) * self._scale

    def pool(self, num_rows: int) -> Iterator[Tensor]:
        """Yield the pool in parts of at most 100,000 rows (float32), the same for every `num_rows`."""
        for part, start in enumerate(range(0, num_rows, _CHUNK)):
            rows = self._draw(_CHUNK, _CLUSTERS, self._generator(2 + part))
            yield rows[: min(_CHUNK, num_rows - start)]

    def pool_tensor(self, num_rows: int) -> Tensor:
        """Return the pool as one tensor."""
        out = torch.empty(num_rows, self.dim)
        start = 0
        for rows in self.pool(num_rows):
            out[start : start + len(rows)] = rows
            start += len(rows)
        return out

    def targets(self, num_targets: int) -> Tensor:
        """Return targets (float64)."""
        return self._draw(num_targets, _TARGET_CLUSTERS, self._generator(1)).to(torch.float64)

    def _draw(self, count: int, clusters: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(0, clusters, (count,), generator=generator)
        rows = self._centres[chosen] + _SPREAD * torch.randn(count, self.dim, generator=generator) * self._scale
        return rows / rows.norm(dim=1, keepdim=True)

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * self.seed + stream)


def write_pool(rows: ClusteredRows, num_rows: int, folder: Path) -> Path:
    """Write the pool as one Parquet file (ids 0..N-1), unless it is there already."""
    path = folder / f"pool-{num_rows}x{rows.dim}-seed{rows.seed}.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("id", pa.int64()), ("embedding", pa.list_(pa.float32(), rows.dim))])

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
            start = 0
            for part in rows.pool(num_rows):
                writer.write_table(_table(np.arange(start, start + len(part)), part), row_group_size=_CHUNK)
                start += len(part)

    write_atomic(path, write)
    return path


def write_targets(rows: ClusteredRows, num_targets: int, folder: Path) -> Path:
    """Write the targets as Parquet."""
    path = folder / f"target-{num_targets}x{rows.dim}-seed{rows.seed}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet_table(path, _table(np.arange(num_targets), rows.targets(num_targets).to(torch.float32)))
    return path


def _table(ids: np.ndarray, rows: Tensor) -> pa.Table:
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows.numpy().reshape(-1)), rows.shape[1])
    return pa.table({"id": pa.array(ids), "embedding": embedding})
