"""Pools, selections and processes that kill themselves, for the tests over Ray."""

import os
import pickle
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.result import GreedyResult
from ray_itl.distributed.placement import ShardPlan
from ray_itl.distributed.ray_pool import RayPool
from ray_itl.distributed.shard_actor import ShardActor
from ray_itl.shards.disk_loading import CacheOptions, load_disk_shard
from ray_itl.shards.loading import STORAGE_DTYPES, RowRange
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.base import PoolSource
from ray_itl.sources.columns import Asked
from ray_itl.sources.manifest import plan_shards
from ray_itl.sources.parquet import ParquetSource

DIM = 8
SMALL = BlockSchedule(block=8, candidates=64, max_candidates=256, max_challengers=64)


def make_rows(num_rows: int, seed: int = 0) -> np.ndarray:
    spectrum = np.arange(1, DIM + 1) ** -0.5
    return (np.random.default_rng(seed).standard_normal((num_rows, DIM)) * spectrum).astype("float32")


def write_rows(folder: Path, rows: np.ndarray, ids: Iterable[int | str] | None = None) -> ParquetSource:
    """Write rows to one Parquet file of small row groups; ids are shuffled numbers unless given."""
    folder.mkdir(exist_ok=True)
    names = np.random.default_rng(1).permutation(len(rows)) if ids is None else list(ids)
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    pq.write_table(pa.table({"id": names, "embedding": embeddings}), folder / "pool.parquet", row_group_size=100)
    return ParquetSource(build_manifest([str(folder)], Asked("id", "embedding")))


def make_targets() -> Targets:
    return Targets.uniform(torch.from_numpy(make_rows(12, seed=5).astype("float64")))


def select(pool: Pool, acquisition: Acquisition, n: int = 40, on_progress=None, **limits) -> GreedyResult:
    state = acquisition.start(Posterior.prior(DIM), make_targets())
    return GreedySelector(pool, acquisition, state, schedule=SMALL, on_progress=on_progress, **limits).select(n)


def picked(result: GreedyResult) -> list[int | str]:
    return [pick.row_id for pick in result.picks]


def local_pool(
    source: ParquetSource, num_shards: int = 1, dtype: str = "float32", cache: CacheOptions | None = None
) -> LocalPool:
    """Return a loaded pool in memory or, with a cache, on disk."""
    parts = [
        RowRange(source, r.start, r.stop, Identity(), STORAGE_DTYPES[dtype])
        for r in plan_shards(source.num_rows, num_shards)
    ]
    return LocalPool([part.load() if cache is None else load_disk_shard(part, cache) for part in parts])


def ray_pool(
    source: PoolSource, num_shards: int, num_cpus: float = 0.1, dtype: str = "float32", cache=None, **options
) -> RayPool:
    """Return a pool of shards that ask for little, not loaded yet; with a cache, of shards on disk."""
    plan = ShardPlan(num_shards, num_cpus=num_cpus, dtype=dtype, on_disk=cache is not None)
    return RayPool(source, Identity(), plan, cache=cache, **options)


def assert_no_process_left() -> None:
    """Wait a little, then expect that no whole CPU is held: for pools whose shards hold one or more each."""
    total = ray.cluster_resources()["CPU"]
    deadline = time.monotonic() + 120  # seconds where nothing else runs
    while (free := ray.available_resources().get("CPU", 0)) <= total - 1:
        assert time.monotonic() < deadline, f"{total - free:g} of {total:g} CPUs are not given back"
        time.sleep(0.1)


@dataclass(frozen=True)
class Fault:
    """Kill the shard that holds a position in the midst of a method, a number of times."""

    method: str
    position: int
    call: int = 1
    """Which call of the method, counted over all lives of the shard."""
    after: bool = False
    """Die with the work done but not delivered."""
    times: int = 1


@dataclass(frozen=True)
class Doom:
    """A folder through which a test tells the processes of a pool when to die."""

    folder: Path

    def order(self, fault: Fault) -> None:
        for name in ("call", "death"):
            for note in self.folder.glob(f"{name}-*"):
                note.unlink()
        (self.folder / "order").write_bytes(pickle.dumps(fault))

    def pid(self, position: int) -> int:
        """Return the process that last loaded the shard that begins there."""
        return int((self.folder / f"pid-{position}").read_text())

    def deaths(self) -> int:
        return len(list(self.folder.glob("death-*")))

    def meet(self, method: str, position: int, after: bool) -> None:
        """Die, in a shard, if it was ordered so."""
        order = self.folder / "order"
        fault = pickle.loads(order.read_bytes()) if order.exists() else None
        if fault is None or (fault.method, fault.position, fault.after) != (method, position, after):
            return
        calls = len(list(self.folder.glob("call-*"))) + 1
        (self.folder / f"call-{calls}").touch()
        if calls >= fault.call and self.deaths() < fault.times:
            (self.folder / f"death-{calls}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class DoomedSource(ParquetSource):
    """A source that brings a Doom to the shards."""

    def __init__(self, source: ParquetSource, doom: Doom) -> None:
        super().__init__(source.manifest)
        self.doom = doom


class MortalActor(ShardActor):
    """A shard that meets the Doom of its DoomedSource."""

    def load(self, source, spec):
        facts = super().load(source, spec)
        assert isinstance(source, DoomedSource)
        self.doom = source.doom
        (self.doom.folder / f"pid-{self._rows.first_position}").write_text(str(os.getpid()))
        self.doom.meet("load", self._rows.first_position, after=True)
        return facts

    def propose(self, request):
        return self._risky("propose", request)

    def verify(self, block):
        return self._risky("verify", block)

    def tied_winners(self, best):
        return self._risky("tied_winners", best)

    def answer(self, question):
        return self._risky("answer", question)

    def id_parts(self, num_parts):
        return self._risky("id_parts", num_parts)

    def _risky(self, method, argument):
        call = getattr(ShardActor, method)
        if self._shard is None:
            return call(self, argument)
        self.doom.meet(method, self._shard.first_position, after=False)
        reply = call(self, argument)
        self.doom.meet(method, self._shard.first_position, after=True)
        return reply


def mortal_pool(source: ParquetSource, folder: Path, num_shards: int = 2, **options) -> tuple[RayPool, Doom]:
    doom = Doom(folder)
    return ray_pool(DoomedSource(source, doom), num_shards, actor_class=MortalActor, **options), doom
