"""What a pass costs the driver for every shard, apart from what the shards themselves do: shards of next to no rows.

Each is a process of its own, as on a cluster, and hands over as many rows a pass as each of hundreds would. The slope
over their number, and that of the calls, says what a pass over many shards costs the driver.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.clocked_pool import VERIFICATION, Clock, clocked
from benchmarks.data import ClusteredRows, write_pool
from benchmarks.settings import ShardsSettings
from ray_itl.cluster.connection import connect
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.shard import PoolShard
from ray_itl.distributed.opening import open_ray_pool
from ray_itl.distributed.relay import PassTime, group_shards
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.experiments.cache import Notify
from ray_itl.sources.open import open_source

_PROPOSALS = 16
"""Rows that each shard proposes a pass: what falls to each of 512, of the 8,192 for all that a large pool has."""
_BLOCK = 32
_RATE_ROWS = 100_000
"""On so many rows it is measured how fast this machine passes over rows."""


@dataclass(frozen=True)
class ShardsPoint:
    """One number of shards; seconds are means over all verify passes."""

    num_shards: int
    num_calls: int
    """That the driver makes for a pass."""
    passes: int
    seconds: float
    """Of a pass, as the driver waits for it."""
    own_seconds: float
    """Of the shards, each by its own clock, summed: what so many processes on few cores do one after another."""
    driver_seconds: float
    """Processor time of all threads of the driver's process: sending, receiving, unpacking, merging."""


@dataclass(frozen=True)
class ShardsResult:
    """All numbers of shards, and what they mean for many."""

    points: list[ShardsPoint]
    many: int
    many_pass_seconds: float
    """A pass of many shards, each with a node of this machine's speed to itself."""

    @property
    def costs(self) -> tuple[float, float]:
        """The driver's seconds a pass, by least squares: for each call that it makes, and for what each shard says.

        They are told apart by points of so many shards that these are called in groups (see `relay`); without any, all
        counts as that of calls.
        """
        in_groups = any(p.num_calls < p.num_shards for p in self.points)
        known = np.array([[p.num_calls, p.num_shards * in_groups, 1.0] for p in self.points])
        call, shard, _ = np.linalg.lstsq(known, np.array([p.driver_seconds for p in self.points]), rcond=None)[0]
        return max(float(call), 0.0), max(float(shard), 0.0)

    def share(self, num_calls: int) -> float:
        """The driver's seconds for many shards as a share of their pass, were there so many calls."""
        call, shard = self.costs
        return (call * num_calls + shard * self.many) / self.many_pass_seconds


def run_shards(settings: ShardsSettings, seed: int, folder: Path, notify: Notify) -> ShardsResult:
    """Measure every number of shards."""
    rows, points = ClusteredRows(settings.dim, seed), []
    rate = _seconds_per_row(settings, rows)
    with connect():
        for count in sorted(settings.counts):
            points.append(_measure(settings, rows, count, folder))
            notify(
                f"{count} shards: {points[-1].seconds:.3g} s a pass, of the driver {points[-1].driver_seconds:.3g} s"
            )
    return ShardsResult(points, settings.many, rate * settings.many_rows)


def _measure(settings: ShardsSettings, rows: ClusteredRows, count: int, folder: Path) -> ShardsPoint:
    path = write_pool(rows, settings.rows * count, folder / "data")
    source = open_source(str(path), id_column="id", embedding_column="embedding", columns=[])
    # Half of the cores between them, so that more shards than cores find room.
    cluster = ClusterSettings(num_shards=count, cpus_per_shard=(os.cpu_count() or 1) / (2 * count))
    own: list[list[PassTime]] = []
    candidates = 2 * _PROPOSALS * count
    schedule = BlockSchedule(block=_BLOCK, candidates=candidates, max_block=_BLOCK, max_candidates=candidates)
    with open_ray_pool(source, Identity(), "float32", cluster, on_pass=own.append) as pool:
        pool.load(lambda _: None)
        _select(settings, rows, pool, Clock(), schedule)  # the first calls of processes take longer
        own.clear()
        clock = Clock()
        for _ in range(settings.repeats):
            _select(settings, rows, pool, clock, schedule)
    passes = clock.calls[VERIFICATION]
    return ShardsPoint(
        count,
        len(group_shards(count)),
        passes,
        clock.seconds[VERIFICATION] / passes,
        sum(time.seconds for times in own for time in times) / len(own),
        clock.cpu_seconds[VERIFICATION] / passes,
    )


def _seconds_per_row(settings: ShardsSettings, rows: ClusteredRows) -> float:
    """Return the seconds of a verify pass in this process for each row."""
    features, clock = rows.pool_tensor(_RATE_ROWS), Clock()
    pool = LocalPool([PoolShard(MemoryFeatures(features), np.arange(len(features)), 0)])
    for _ in range(settings.repeats):
        _select(settings, rows, pool, clock, BlockSchedule())
    return clock.seconds[VERIFICATION] / clock.calls[VERIFICATION] / len(features)


def _select(settings: ShardsSettings, rows: ClusteredRows, pool: Pool, clock: Clock, schedule: BlockSchedule) -> None:
    rule, targets = InformationGain(settings.noise_variance), Targets.uniform(rows.targets(settings.num_targets))
    state = rule.start(Posterior.prior(settings.dim), targets)
    GreedySelector(clocked(pool, clock), rule, state, schedule=schedule).select(settings.n)


def shards_table(result: ShardsResult, settings: ShardsSettings) -> str:
    """Return the figures as a Markdown table, and what they mean in words."""
    intro = (
        f"Shards of {settings.rows:,} x {settings.dim} rows, each a process of this machine, {_PROPOSALS} rows "
        f"proposed by each a pass, {_BLOCK} picks a block; means over the passes of {settings.repeats} selections."
    )
    lines = [
        "| shards | calls | passes | seconds a pass | shards' own, summed | driver's processor seconds "
        "| for each shard, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for p in result.points:
        each = 1000 * p.driver_seconds / p.num_shards
        lines.append(
            f"| {p.num_shards} | {p.num_calls} | {p.passes} | {p.seconds:.3g} | {p.own_seconds:.3g} "
            f"| {p.driver_seconds:.3g} | {each:.3g} |"
        )
    return "\n\n".join([intro, "\n".join(lines), _meaning(result, settings)])


def _meaning(result: ShardsResult, settings: ShardsSettings) -> str:
    (call, shard), calls = result.costs, len(group_shards(result.many))
    threads = torch.get_num_threads()
    return (
        f"A call costs the driver {1000 * call:.3g} ms, and what each shard says {1000 * shard:.3g} ms. A pass over "
        f"{settings.many_rows:,} rows takes this machine {result.many_pass_seconds:.3g} s ({threads} threads), so over "
        f"{result.many} shards of so many each the driver's part is {result.share(calls):.1%} of a pass by {calls} "
        f"calls to groups; it would be {result.share(result.many):.1%} by a call to each."
    )
