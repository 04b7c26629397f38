"""The engine on a pool in memory: where its time goes, and that of plain greedy and of Ray shards beside it.

The verify passes of a selection are set beside bare matrix products of the same shapes, in the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.clocked_pool import OTHERS, PROPOSALS, START, VERIFICATION, Clock, ClockedShard, clocked
from benchmarks.data import ClusteredRows, write_pool
from benchmarks.products import Products
from benchmarks.settings import EngineSettings
from ray_itl.api import select
from ray_itl.cluster.connection import connect
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
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
LOAD, DRIVER = "load", "driver"
STAGES = (LOAD, START, PROPOSALS, VERIFICATION, OTHERS, DRIVER)


@dataclass(frozen=True)
class EngineResult:
    """Figures for one noise variance; seconds are medians over the repeats."""

    noise_variance: float
    passes: int
    precision: str
    """In which rows were screened at the end."""
    seconds: float
    plain_seconds: float
    """One pass for every pick."""
    ray_seconds: float
    """With Ray shards; nan without."""
    local_seconds: float
    """In this process, in the repeats that alternate with Ray."""
    stages: dict[str, float]
    """Of a selection from rows in memory, by STAGES; "load" makes the shard, "driver" is outside all calls."""
    bare: dict[str, float]
    """Of bare products with as many columns as the verify passes had, by the type of numbers."""
    whole: dict[str, float]
    """Of `ray_itl.select` from the same arrays, by its own stages."""
    ray_agrees: bool | None
    """Whether the Ray shards picked the same rows in the same order; None without."""
    plain_in_common: int
    """How many picks plain greedy shares: computing in float32, it takes near-ties the wrong way round."""


def run_engine(settings: EngineSettings, seed: int, folder: Path, notify: Callable[[str], None]) -> list[EngineResult]:
    """Measure every noise variance; the same rows throughout."""
    rows = ClusteredRows(settings.dim, seed)
    notify(f"drawing {settings.num_rows:,} x {settings.dim} rows")
    features, targets = rows.pool_tensor(settings.num_rows), Targets.uniform(rows.targets(settings.num_targets))
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
        return [_measure(settings, noise, features, targets, ray_pool, notify) for noise in settings.noise_variances]


@dataclass
class _Turns:
    """Selections that take turns: seconds by who selects, and what was picked."""

    seconds: dict[str, list[float]]
    result: GreedyResult
    plain_picks: list[int]
    ray_result: GreedyResult | None = None


def _take_turns(
    settings: EngineSettings,
    noise: float,
    features: Tensor,
    targets: Targets,
    ray_pool: Pool | None,
    notify: Callable[[str], None],
) -> _Turns:
    local = LocalPool([PoolShard(MemoryFeatures(features), np.arange(len(features)), 0)])
    seconds: dict[str, list[float]] = {"local": [], "plain": [], "local beside Ray": [], "Ray": []}
    turns = _Turns(seconds, _select(settings, noise, local, targets), [])
    for repeat in range(settings.repeats):
        notify(f"noise {noise:g}: repeat {repeat + 1} of {settings.repeats}")
        _timed(seconds["local"], lambda: _select(settings, noise, local, targets))
        turns.plain_picks = _timed(seconds["plain"], lambda: one_pass_per_pick(features, targets, settings.n, noise))
    for _ in range(settings.repeats if ray_pool is not None else 0):
        assert ray_pool is not None
        _timed(seconds["local beside Ray"], lambda: _select(settings, noise, local, targets))
        turns.ray_result = _timed(seconds["Ray"], lambda: _select(settings, noise, ray_pool, targets))
    return turns


def _measure(
    settings: EngineSettings,
    noise: float,
    features: Tensor,
    targets: Targets,
    ray_pool: Pool | None,
    notify: Callable[[str], None],
) -> EngineResult:
    turns = _take_turns(settings, noise, features, targets, ray_pool, notify)
    seconds, result, ray_result = turns.seconds, turns.result, turns.ray_result
    notify(f"noise {noise:g}: stages and bare products")
    picks = [pick.row_id for pick in result.picks]
    return EngineResult(
        noise,
        result.stats.passes,
        result.stats.precision,
        _median(seconds["local"]),
        _median(seconds["plain"]),
        _median(seconds["Ray"]),
        _median(seconds["local beside Ray"]),
        _stages(settings, noise, features, targets),
        _bare_seconds(features, result, settings.repeats),
        _whole(settings, noise, features, targets),
        None if ray_result is None else picks == [pick.row_id for pick in ray_result.picks],
        len({*picks} & {*turns.plain_picks}),
    )


def _stages(settings: EngineSettings, noise: float, features: Tensor, targets: Targets) -> dict[str, float]:
    found = []
    for _ in range(settings.repeats):
        clock = Clock()
        shard = clock.time(LOAD, lambda: ClockedShard(MemoryFeatures(features), np.arange(len(features)), 0))
        shard.clock = clock
        pool = clocked(LocalPool([shard]), clock)
        clock.time(DRIVER, lambda pool=pool: _select(settings, noise, pool, targets))
        found.append(clock.seconds)
    return _medians(found, STAGES)


def _bare_seconds(features: Tensor, result: GreedyResult, repeats: int) -> dict[str, float]:
    """Return, for every type of numbers, the seconds of the products that the verify passes cannot do without."""
    tracks = InformationGain(1.0).num_tracks
    products, columns, found = Products(features), [tracks * size for size, _ in result.stats.blocks], {}
    for kind in products.kinds:
        seconds = {count: products.seconds(kind, count, repeats) for count in {*columns}}
        found[kind] = sum(seconds[count] for count in columns)
    return found


def _whole(settings: EngineSettings, noise: float, features: Tensor, targets: Targets) -> dict[str, float]:
    found = [
        select(features, targets.rows, settings.n, noise_variance=noise).metrics["seconds"]
        for _ in range(settings.repeats)
    ]
    return _medians(found, [name for name in found[0] if name in ("open", "load", "select")])


def _medians(found: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    return {name: statistics.median(each.get(name, 0.0) for each in found) for name in names}


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


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
    """Return the figures as Markdown tables."""
    intro = (
        f"Engine: {settings.num_rows:,} x {settings.dim} float32, {settings.num_targets} targets, n = {settings.n:,}, "
        f"{torch.get_num_threads()} threads, medians of {settings.repeats}."
    )
    return "\n\n".join([intro, _comparison_table(results, settings), _stages_table(results), _products_table(results)])


def _comparison_table(results: list[EngineResult], settings: EngineSettings) -> str:
    says = {True: "yes", False: "no", None: "-"}
    lines = [
        "| noise variance | passes | screened in | seconds | one pass a pick, seconds | speed-up "
        f"| {settings.num_shards} Ray shards / in-process | Ray picks the same "
        "| picks in common with plain float32 greedy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r.noise_variance:g} | {r.passes} | {r.precision} | {r.seconds:.3g} | {r.plain_seconds:.3g} "
            f"| {r.plain_seconds / r.seconds:.1f} | {r.ray_seconds / r.local_seconds:.2f} | {says[r.ray_agrees]} "
            f"| {r.plain_in_common} |"
        )
    return "\n".join(lines)


def _stages_table(results: list[EngineResult]) -> str:
    whole = list(results[0].whole)
    names = [*STAGES, *(f"select(): {name}" for name in whole)]
    lines = [f"| noise variance; seconds of | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for r in results:
        values = [*(r.stages[name] for name in STAGES), *(r.whole[name] for name in whole)]
        lines.append(f"| {r.noise_variance:g} | {' | '.join(f'{value:.3g}' for value in values)} |")
    return "\n".join(lines)


def _products_table(results: list[EngineResult]) -> str:
    kinds = list(results[0].bare)
    names = [text for kind in kinds for text in (f"bare {kind} products", f"verification / {kind}")]
    lines = [
        f"| noise variance; seconds of | {VERIFICATION} | {' | '.join(names)} |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for r in results:
        spent = r.stages[VERIFICATION]
        cells = [text for kind in kinds for text in (f"{r.bare[kind]:.3g}", f"{spent / r.bare[kind]:.2f}")]
        lines.append(f"| {r.noise_variance:g} | {spent:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines)
