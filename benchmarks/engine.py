"""The engine on a pool in memory: passes, cost of a pass, and time beside plain greedy and beside Ray shards.

A verify pass is timed beside the bare matrix product that it cannot do without.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import ClusteredRows, write_pool
from benchmarks.settings import EngineSettings
from ray_itl.cluster.connection import connect
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.messages import Block, BlockReport
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.reference import one_pass_per_pick
from ray_itl.core.result import GreedyResult
from ray_itl.core.shard import PoolShard
from ray_itl.distributed.opening import open_ray_pool
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.sources.open import open_source
from ray_itl.sources.parquet import ParquetSource

T = TypeVar("T")


@dataclass(frozen=True)
class PassCost:
    """One verify pass."""

    num_columns: int
    """Columns of the product X W."""
    seconds: float
    bare_seconds: float
    """X W alone: the same shape, chunks and threads, measured just before."""
    rejected: bool
    """Whether the pass also took back picks of the block before it, at the cost of a second product."""


@dataclass
class TimedPool(LocalPool):
    """A pool of one shard that times every verify pass and the bare product of the same shape."""

    shard: PoolShard
    costs: list[PassCost] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the pool."""
        super().__init__([self.shard])
        self._previous_size = 0

    def verify(self, block: Block) -> BlockReport:
        """Verify, timed."""
        weights = block.columns.flatten(1).to(self.shard.features.dtype)
        bare = self._bare_product(weights)
        began = time.perf_counter()
        report = super().verify(block)
        seconds = time.perf_counter() - began
        rejected = block.sequence > 0 and block.accepted < self._previous_size
        self.costs.append(PassCost(weights.shape[1], seconds, bare, rejected))
        self._previous_size = block.size
        return report

    def ratio(self, with_rejected: bool) -> float:
        """Return the median over passes of verify seconds to bare seconds."""
        chosen = [c for c in self.costs if with_rejected or not c.rejected]
        return statistics.median(c.seconds / c.bare_seconds for c in chosen) if chosen else float("nan")

    def _bare_product(self, weights: torch.Tensor) -> float:
        began = time.perf_counter()
        for _, rows in self.shard.features.chunks():
            torch.mm(rows, weights)
        return time.perf_counter() - began


@dataclass(frozen=True)
class EngineResult:
    """Figures for one noise variance; seconds are medians over the repeats."""

    noise_variance: float
    passes: int
    seconds: float
    plain_seconds: float
    """One pass for every pick."""
    ray_seconds: float
    """With Ray shards; nan without."""
    local_seconds: float
    """In this process, in the repeats that alternate with Ray."""
    verify_ratio: float
    """Verify pass to bare matrix product, passes that had nothing to take back."""
    verify_ratio_all: float
    ray_agrees: bool | None
    """Whether the Ray shards picked the same rows in the same order; None without."""
    plain_in_common: int
    """How many picks plain greedy shares: computing in float32, it takes near-ties the wrong way round."""


def run_engine(settings: EngineSettings, seed: int, folder: Path, notify: Callable[[str], None]) -> list[EngineResult]:
    """Measure every noise variance; the same rows throughout."""
    rows = ClusteredRows(settings.dim, seed)
    notify(f"drawing {settings.num_rows:,} x {settings.dim} rows")
    features, targets = rows.pool_tensor(settings.num_rows), Targets.uniform(rows.targets(settings.num_targets))
    shard = PoolShard(MemoryFeatures(features), np.arange(settings.num_rows), 0)
    with ExitStack() as stack:
        ray_pool = None
        if settings.num_shards:
            notify(f"loading the same rows into {settings.num_shards} Ray shards")
            path = write_pool(rows, settings.num_rows, folder / "data")
            source = open_source(str(path), id_column="id", embedding_column="embedding", columns=[])
            assert isinstance(source, ParquetSource)
            stack.enter_context(connect())
            cluster = ClusterSettings(num_shards=settings.num_shards)
            ray_pool = stack.enter_context(open_ray_pool(source, Identity(), "float32", cluster))
            ray_pool.load(lambda _: None)
        return [
            _measure(settings, noise, features, shard, targets, ray_pool, notify) for noise in settings.noise_variances
        ]


def _measure(
    settings: EngineSettings,
    noise: float,
    features: Tensor,
    shard: PoolShard,
    targets: Targets,
    ray_pool: Pool | None,
    notify: Callable[[str], None],
) -> EngineResult:
    local = LocalPool([shard])
    plain_picks: list[int] = []
    seconds: dict[str, list[float]] = {"local": [], "plain": [], "local beside Ray": [], "Ray": []}
    result, ray_result = _select(settings, noise, local, targets), None
    for repeat in range(settings.repeats):
        notify(f"noise {noise:g}: repeat {repeat + 1} of {settings.repeats}")
        _timed(seconds["local"], lambda: _select(settings, noise, local, targets))
        plain_picks = _timed(seconds["plain"], lambda: one_pass_per_pick(features, targets, settings.n, noise))
    for _ in range(settings.repeats if ray_pool is not None else 0):
        assert ray_pool is not None
        _timed(seconds["local beside Ray"], lambda: _select(settings, noise, local, targets))
        ray_result = _timed(seconds["Ray"], lambda: _select(settings, noise, ray_pool, targets))
    timed = TimedPool(shard)
    for _ in range(settings.repeats):
        _select(settings, noise, timed, targets)
    picks = [pick.row_id for pick in result.picks]
    median = {name: statistics.median(values) if values else float("nan") for name, values in seconds.items()}
    return EngineResult(
        noise,
        result.stats.passes,
        median["local"],
        median["plain"],
        median["Ray"],
        median["local beside Ray"],
        timed.ratio(with_rejected=False),
        timed.ratio(with_rejected=True),
        None if ray_result is None else picks == [pick.row_id for pick in ray_result.picks],
        len({*picks} & {*plain_picks}),
    )


def _select(settings: EngineSettings, noise: float, pool: Pool, targets: Targets) -> GreedyResult:
    rule = InformationGain(noise)
    state = rule.start(Posterior.prior(settings.dim), targets)
    return GreedySelector(pool, rule, state).select(settings.n)


def _timed(seconds: list[float], work: Callable[[], T]) -> T:
    began = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - began)
    return result


def engine_table(results: list[EngineResult], settings: EngineSettings) -> str:
    """Return the figures as a Markdown table."""
    says = {True: "yes", False: "no", None: "-"}
    lines = [
        f"Engine: {settings.num_rows:,} x {settings.dim} float32, {settings.num_targets} targets, n = {settings.n:,}, "
        f"{torch.get_num_threads()} threads, medians of {settings.repeats}.",
        "",
        "| noise variance | passes | seconds | one pass a pick, seconds | speed-up | verify / bare product "
        f"| the same with taking back | {settings.num_shards} Ray shards / in-process | Ray picks the same "
        "| picks in common with plain float32 greedy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r.noise_variance:g} | {r.passes} | {r.seconds:.1f} | {r.plain_seconds:.1f} "
            f"| {r.plain_seconds / r.seconds:.1f} | {r.verify_ratio:.2f} | {r.verify_ratio_all:.2f} "
            f"| {r.ray_seconds / r.local_seconds:.2f} | {says[r.ray_agrees]} "
            f"| {r.plain_in_common} |"
        )
    return "\n".join(lines)
