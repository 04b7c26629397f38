"""How a selection grows: with shards, nodes, dimensions, picks and targets, one varied at a time around a base.

Shown as a Markdown table and as a page of charts.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.curves_page import CurvesChart, CurvesReport, render_curves
from benchmarks.data import ClusteredRows, write_pool
from benchmarks.settings import ScalingSettings
from ray_itl.cluster.connection import connect, simulated_cluster
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.shard import PoolShard
from ray_itl.distributed.opening import open_ray_pool
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.experiments.cache import Notify
from ray_itl.sources.manifest import plan_shards
from ray_itl.sources.open import open_source

_SHARDS_PER_NODE = 2
_CPUS_PER_NODE = 1
_REPEAT_BELOW_S = 10.0
LOCAL_SHARDS, RAY_SHARDS, NODES = "shards in one process", "Ray shards", "simulated nodes"
SPREAD = (LOCAL_SHARDS, RAY_SHARDS, NODES)
"""The axes along which the problem, and so the picks, stay the same."""


@dataclass(frozen=True)
class ScalingPoint:
    """One selection."""

    axis: str
    """What is varied."""
    value: int
    passes: int
    seconds: float
    """From the loaded pool to the picks, the targets' factors included; median over the repeats."""
    picks: list[int]
    """Positions, in order."""
    precision: str
    """In which rows were screened at the end: float64 where float32 could not tell them apart any more."""


class _Bench:
    """The pool of the base, and selections from it."""

    def __init__(self, settings: ScalingSettings, seed: int) -> None:
        self._settings = settings
        self._rows = ClusteredRows(settings.dim, seed)

    def local_pool(self, num_shards: int) -> LocalPool:
        """Return the rows in this process."""
        features = self._rows.pool_tensor(self._settings.num_rows)
        ids = np.arange(len(features))
        parts = plan_shards(len(features), num_shards)
        return LocalPool(
            [PoolShard(MemoryFeatures(features[p.start : p.stop]), ids[p.start : p.stop], p.start) for p in parts]
        )

    def select(
        self, axis: str, value: int, pool: Pool, n: int | None = None, num_targets: int | None = None
    ) -> ScalingPoint:
        """Select from a loaded pool, with the base's number of picks and targets unless others are given."""
        n, num_targets = n or self._settings.n, num_targets or self._settings.num_targets
        rule, targets = InformationGain(self._settings.noise_variance), Targets.uniform(self._rows.targets(num_targets))
        seconds: list[float] = []
        while True:
            began = time.perf_counter()
            state = rule.start(Posterior.prior(pool.dim), targets)
            result = GreedySelector(pool, rule, state).select(n)
            seconds.append(time.perf_counter() - began)
            if len(seconds) == self._settings.repeats or seconds[-1] > _REPEAT_BELOW_S:
                break
        picks, stats = [pick.position for pick in result.picks], result.stats
        return ScalingPoint(axis, value, stats.passes, statistics.median(seconds), picks, stats.precision)

    def select_over_ray(
        self, axis: str, value: int, num_shards: int, cpus_per_shard: float, folder: Path
    ) -> ScalingPoint:
        """Load the pool into Ray shards and select; this process has to be connected."""
        path = write_pool(self._rows, self._settings.num_rows, folder / "data")
        source = open_source(str(path), id_column="id", embedding_column="embedding", columns=[])
        cluster = ClusterSettings(num_shards=num_shards, cpus_per_shard=cpus_per_shard)
        with open_ray_pool(source, Identity(), "float32", cluster) as pool:
            pool.load(lambda _: None)
            return self.select(axis, value, pool)


def run_scaling(settings: ScalingSettings, seed: int, folder: Path, notify: Notify) -> list[ScalingPoint]:
    """Measure every axis that is not empty."""
    points = []
    for point in chain(_in_process(settings, seed), _over_ray(settings, seed, folder)):
        done = f"{len(point.picks):,} picks in {point.passes:,} passes"
        notify(f"{point.axis}: {point.value:,}: {done}, {point.seconds:.3g} s")
        points.append(point)
    return points


def _in_process(settings: ScalingSettings, seed: int) -> Iterator[ScalingPoint]:
    bench = _Bench(settings, seed)
    for count in settings.local_shards:
        yield bench.select(LOCAL_SHARDS, count, bench.local_pool(count))
    if settings.picks or settings.targets:
        pool = bench.local_pool(1)
        yield from (bench.select("picks", n, pool, n=n) for n in settings.picks)
        yield from (bench.select("targets", count, pool, num_targets=count) for count in settings.targets)
    for dim in settings.dims:
        num_rows = settings.wide_rows if dim > settings.wide else settings.num_rows
        bench = _Bench(replace(settings, dim=dim, num_rows=num_rows), seed)
        yield bench.select("dimensions", dim, bench.local_pool(1))


def _over_ray(settings: ScalingSettings, seed: int, folder: Path) -> Iterator[ScalingPoint]:
    bench, cores = _Bench(settings, seed), os.cpu_count() or 1
    if settings.ray_shards:
        with connect():
            for count in settings.ray_shards:
                # Half of the cores between them, so that more shards than cores find room.
                yield bench.select_over_ray(RAY_SHARDS, count, count, cores / (2 * count), folder)
    for count in settings.nodes:
        with simulated_cluster(count, _CPUS_PER_NODE):
            # As much as there is, so that no node has room for the shards of another.
            each = _CPUS_PER_NODE / _SHARDS_PER_NODE
            yield bench.select_over_ray(NODES, count, _SHARDS_PER_NODE * count, each, folder)


def scaling_table(points: list[ScalingPoint], settings: ScalingSettings) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        f"Scaling, one thing varied at a time around {_base(settings)}. Nodes are processes of this machine, with two "
        f"shards each: what is added by more of them is the cost of messages, not computing power.{_wide(settings)}",
        "",
        "| varied | value | picks | passes | picks a pass | screened in | seconds | seconds / first row | same picks |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first: dict[str, ScalingPoint] = {}
    for p in points:
        ratio = p.seconds / first.setdefault(p.axis, p).seconds
        lines.append(
            f"| {p.axis} | {p.value:,} | {len(p.picks):,} | {p.passes:,} | {len(p.picks) / p.passes:.1f} "
            f"| {p.precision} | {p.seconds:.3g} | {ratio:.3g} | {_same(p, points)} |"
        )
    return "\n".join(lines)


def render_scaling(points: list[ScalingPoint], settings: ScalingSettings, machine: str) -> str:
    """Return a page with charts of seconds and passes, one for each thing that is varied.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    charts = []
    for axis in dict.fromkeys(p.axis for p in points):
        own = [p for p in points if p.axis == axis]
        places, seconds, passes = [p.value for p in own], [p.seconds for p in own], [p.passes for p in own]
        curves = {"seconds": (places, seconds), "passes over the pool": (places, passes)}
        charts.append(CurvesChart(f"By {axis}", "On these axes a straight line is a power.", axis, "", curves))
    headline = f"Seconds and passes of a selection around {_base(settings)}."
    return render_curves(CurvesReport("Scaling", headline, charts, facts={"Machine": machine}))


def _base(settings: ScalingSettings) -> str:
    return (
        f"N = {settings.num_rows:,}, D = {settings.dim}, {settings.num_targets} targets, n = {settings.n:,}, noise "
        f"variance {settings.noise_variance:g}"
    )


def _wide(settings: ScalingSettings) -> str:
    if all(dim <= settings.wide for dim in settings.dims):
        return ""
    return f" Above D = {settings.wide:,} the pool has {settings.wide_rows:,} rows."


def _same(point: ScalingPoint, points: list[ScalingPoint]) -> str:
    """Whether shards and nodes picked what one process does; "-" where the problem is another."""
    if point.axis not in SPREAD:
        return "-"
    reference = next((p for p in points if p.axis in SPREAD), point)
    return "yes" if point.picks == reference.picks else "NO"
