"""Pools and targets to measure on: synthetic rows that resemble embeddings, and embeddings of WordNet.

Synthetic rows come in clusters, with a power-law spectrum and norm 1. They are written as Parquet for whole runs, and
as .npy files from which every process of a comparison reads the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ray_itl.errors import ConfigError
from ray_itl.experiments.cache import Notify, as_matrix, cache_root
from ray_itl.experiments.tasks import wordnet_task
from ray_itl.io.atomic import write_atomic, write_parquet_table

_TEXTS_AT_ONCE = 100_000
_CLUSTERS = 200
_TARGET_CLUSTERS = 10
_SPREAD = 0.7
_TILE_NOISE = 0.1
_CHUNK = 50_000


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
        for part, start in enumerate(range(0, num_rows, _TEXTS_AT_ONCE)):
            rows = self._draw(_TEXTS_AT_ONCE, _CLUSTERS, self._generator(2 + part))
            yield rows[: min(_TEXTS_AT_ONCE, num_rows - start)]

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
                writer.write_table(_table(np.arange(start, start + len(part)), part), row_group_size=_TEXTS_AT_ONCE)
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


@dataclass(frozen=True)
class Matrices:
    """Files of float32 rows of norm 1."""

    name: str
    pool: Path
    targets: Path
    words: str
    """What the rows are."""

    def pool_rows(self, indices: list[int]) -> np.ndarray:
        """Return some rows of the pool."""
        return np.array(np.load(self.pool, mmap_mode="r", allow_pickle=False)[indices])

    def target_rows(self) -> np.ndarray:
        """Return the targets."""
        return np.load(self.targets, allow_pickle=False)


def write_matrices(
    name: str, num_rows: int, num_targets: int, dim: int, seed: int, folder: Path, notify: Notify
) -> Matrices:
    """Write pool and targets of a data set, unless they are there; smaller pools are the first rows of larger ones.

    "wordnet": MiniLM embeddings (384 dimensions, `dim` counts for nothing) of WordNet's glosses in random order, with
    targets of the class noun.body; beyond their 116,759 rows they come again, each with noise of a tenth of its norm.
    "synthetic": `ClusteredRows`.

    Raises:
        InputError: the data cannot be had (says what to do).
        ConfigError: more targets are asked for than there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = "" if name == "wordnet" else f"x{dim}"
    pool, targets = (folder / f"{name}-{kind}{size}-seed{seed}.npy" for kind in (num_rows, f"targets-{num_targets}"))
    if not (pool.exists() and targets.exists()):
        notify(f"writing {num_rows:,} rows of {name} to {pool}")
        make = _wordnet if name == "wordnet" else _synthetic
        for path, rows in zip((pool, targets), make(num_rows, num_targets, dim, seed, notify), strict=True):
            write_atomic(path, lambda file, rows=rows: np.save(file, rows, allow_pickle=False))
    words = "MiniLM embeddings of WordNet glosses" if name == "wordnet" else "synthetic clusters"
    return Matrices(name, pool, targets, words)


def _wordnet(num_rows: int, num_targets: int, dim: int, seed: int, notify: Notify) -> Iterator[np.ndarray]:
    del dim
    task = wordnet_task(cache_root(), seed, notify)
    real, targets = (
        as_matrix(pq.read_table(path, columns=["embedding"])["embedding"]).astype(np.float32)
        for path in (task.pool, task.target)
    )
    if num_targets > len(targets):
        raise ConfigError(f"peers.num_targets={num_targets} cannot be used: wordnet has {len(targets)} targets")
    random = np.random.default_rng(seed)
    yield tiled(real[random.permutation(len(real))], num_rows, random)
    yield targets[:num_targets]


def tiled(real: np.ndarray, num_rows: int, random: np.random.Generator) -> np.ndarray:
    """Return the rows, then copies of them with noise of a tenth of their norm, all at norm 1: num_rows x D float32."""
    rows = np.empty((num_rows, real.shape[1]), np.float32)
    for start in range(0, num_rows, _CHUNK):
        part = rows[start : start + _CHUNK]
        part[:] = real[np.arange(start, start + len(part)) % len(real)]
        copies = part[max(len(real) - start, 0) :]
        copies += (_TILE_NOISE / real.shape[1] ** 0.5) * random.standard_normal(copies.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def _synthetic(num_rows: int, num_targets: int, dim: int, seed: int, notify: Notify) -> Iterator[np.ndarray]:
    del notify
    rows = ClusteredRows(dim, seed)
    yield rows.pool_tensor(num_rows).numpy()
    yield rows.targets(num_targets).float().numpy()
