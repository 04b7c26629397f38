"""Pool and targets as .npy files, from which every process of a comparison reads the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ray_itl.benchmark.data import ClusteredRows
from ray_itl.datasets.cache import cache_root
from ray_itl.datasets.tables import Say, as_matrix
from ray_itl.datasets.tasks import wordnet_task
from ray_itl.errors import ConfigError
from ray_itl.io.atomic import write_atomic

_TILE_NOISE = 0.1
_CHUNK = 50_000


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


def write_matrices(name: str, num_rows: int, num_targets: int, dim: int, seed: int, folder: Path, say: Say) -> Matrices:
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
        say(f"writing {num_rows:,} rows of {name} to {pool}")
        make = _wordnet if name == "wordnet" else _synthetic
        for path, rows in zip((pool, targets), make(num_rows, num_targets, dim, seed, say), strict=True):
            write_atomic(path, lambda file, rows=rows: np.save(file, rows, allow_pickle=False))
    words = "MiniLM embeddings of WordNet glosses" if name == "wordnet" else "synthetic clusters"
    return Matrices(name, pool, targets, words)


def _wordnet(num_rows: int, num_targets: int, dim: int, seed: int, say: Say) -> Iterator[np.ndarray]:
    del dim
    task = wordnet_task(cache_root(), seed, say)
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


def _synthetic(num_rows: int, num_targets: int, dim: int, seed: int, say: Say) -> Iterator[np.ndarray]:
    del say
    rows = ClusteredRows(dim, seed)
    yield rows.pool_tensor(num_rows).numpy()
    yield rows.targets(num_targets).float().numpy()
