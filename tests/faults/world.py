"""The job under test: a small pool in several files, what it is asked, and how long it goes undisturbed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM, FILES, ROWS_PER_FILE, GROUP = 16, 6, 1000, 250
NUM_PICKS = 150
LEASE_S = 1.0


def rows(seed: int) -> np.ndarray:
    """Clustered rows of norm about 1, float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, DIM))
    made = centres[rng.integers(40, size=ROWS_PER_FILE)] + 0.5 * rng.standard_normal((ROWS_PER_FILE, DIM))
    return (made / DIM**0.5).astype(np.float32)


def part(number: int, seed: int) -> pa.Table:
    """Rows of one file: its ids depend on its number alone, all else on the seed."""
    ids = np.random.default_rng(number).permutation(ROWS_PER_FILE) + ROWS_PER_FILE * number
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(rows(seed).reshape(-1)), DIM)
    text = pa.array([f"{seed:03d}-{i:06d}" for i in ids])
    return pa.table({"id": pa.array(ids), "embedding": embedding, "text": text})


def write_part(path: Path, number: int, seed: int, group: int = GROUP) -> None:
    """Write a file of the pool. Files of equal row groups have equal sizes."""
    pq.write_table(part(number, seed), path, row_group_size=group, compression="none", use_dictionary=False)


def name_of(number: int) -> str:
    """Return the name of a file of the pool."""
    return f"part-{number}.parquet"


class World:
    """A folder with a pool and a target, and the options of a run or a tick on them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pool, self.target = folder, folder / "pool", folder / "target.parquet"

    def build(self, files: int = FILES) -> World:
        """Write everything."""
        self.pool.mkdir(parents=True)
        for number in range(files):
            self.grow(number)
        pq.write_table(part(0, 1000).slice(0, 20), self.target)
        return self

    def grow(self, number: int) -> None:
        """Write a file of the pool."""
        write_part(self.pool / name_of(number), number, seed=number)

    def copy(self, folder: Path) -> World:
        """Return a copy, state included, in another folder."""
        shutil.copytree(self.folder, folder)
        return World(folder)

    def run(self, shards: int = 0, place: Path | None = None, *more: str) -> list[str]:
        """Options of a run; its run directory is `run` in this folder, or in `place`."""
        return [*self._common(shards), f"run.dir={(place or self.folder) / 'run'}", *more]

    def tick(self, name: str, place: Path | None = None, *more: str) -> list[str]:
        """Options of a tick; its state directory is `state` in this folder, or in `place`."""
        state = [f"state.dir={(place or self.folder) / 'state'}", f"state.tick={name}", f"state.lease_s={LEASE_S}"]
        return [*self._common(0), *state, "state.candidates=all", *more]

    def _common(self, shards: int) -> list[str]:
        return [
            f"pool.path={self.pool}",
            f"target.path={self.target}",
            "pool.columns=[text]",
            f"selection.n={NUM_PICKS}",
            "acquisition.noise_variance=0.1",
            "cluster.cpus_per_shard=0.6",
            "run.map_sample=100",
            f"cluster.num_shards={shards}",
        ]
