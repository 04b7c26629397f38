"""Many queries of one pool: seconds, and what the picks are worth, beside activeft's batch search.

Every query is one target of the pool's own kind. activeft's retriever prefilters by faiss (200 or 1,000 rows, those
opposite to the query among them, its default) and picks by VTL; its index is made before the time counts, as ray_itl's
pool is opened before. All picks are worth what VTL says of them, by one measure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import ClusteredRows
from benchmarks.machine import threads
from benchmarks.peers import ACTIVEFT, batch_search
from benchmarks.settings import QueriesSettings
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.loaded.pool import LoadedPool, open_pool

Notify = Callable[[str], None]
Picks = list[np.ndarray]
EXACT = "ray_itl, all rows"


@dataclass(frozen=True)
class QueriesResult:
    """One way to select for all queries of one pool."""

    num_rows: int
    name: str
    num_queries: int
    seconds: float
    mean_gain: float
    """Of a query's picks together, by VTL: variance of the target, of 1 before the first."""


def run_queries(settings: QueriesSettings, seed: int, _: Path, notify: Notify) -> list[QueriesResult]:
    """Select for the same queries in every way, from pools of every size."""
    rows = ClusteredRows(settings.dim, seed)
    targets = rows.targets(settings.count).to(torch.float32).numpy()
    found = []
    with threads(settings.num_threads):
        for size in settings.num_rows:
            pool = rows.pool_tensor(size).numpy()
            for name, count, work in _ways(pool, targets, settings, notify):
                began = time.perf_counter()
                picks = work()
                seconds = time.perf_counter() - began
                gain = _mean_gain(pool, targets[:count], picks, settings.noise_variance)
                found.append(QueriesResult(size, name, count, seconds, gain))
                notify(f"{size:,} rows, {name}: {count:,} queries in {seconds:.3g} s, {gain:.4f} each")
    return found


def _ways(
    pool: np.ndarray, targets: np.ndarray, settings: QueriesSettings, notify: Notify
) -> Iterator[tuple[str, int, Callable[[], Picks]]]:
    """Yield a name, how many of the queries, and what picks for them."""
    count = len(targets)
    with open_pool(pool) as loaded:
        loaded.select_many(targets[:2], settings.n, **_rule(settings))  # copies of rows are made before
        for nearest in settings.nearest:
            yield f"ray_itl, nearest {nearest:,}", count, lambda k=nearest: _ours(loaded, targets, settings, k)
        some = min(count, settings.exact)
        if some:
            yield EXACT, some, lambda: _ours(loaded, targets[:some], settings, None)
        few = min(count, settings.alone)
        if few:
            yield "ray_itl, one by one", few, lambda: _one_by_one(loaded, targets[:few], settings)
    if ACTIVEFT[0].version() is None:
        notify('activeft is left out: it is not installed (pip install "ray_itl[peers]")')
        return
    for nearest in settings.nearest:
        yield (
            f"activeft, nearest {nearest:,}",
            count,
            batch_search(pool, targets, settings.n, settings.noise_variance, nearest),
        )


def _rule(settings: QueriesSettings) -> dict:
    return {"acquisition": "vtl", "noise_variance": settings.noise_variance}


def _ours(loaded: LoadedPool, targets: np.ndarray, settings: QueriesSettings, nearest: int | None) -> Picks:
    table = loaded.select_many(targets, settings.n, nearest=nearest, **_rule(settings))
    return np.split(table["id"].to_numpy(), len(targets))


def _one_by_one(loaded: LoadedPool, targets: np.ndarray, settings: QueriesSettings) -> Picks:
    return [np.array(loaded.select(row[None], settings.n, **_rule(settings)).ids) for row in targets]


def _mean_gain(pool: np.ndarray, targets: np.ndarray, picks: Sequence[np.ndarray], noise: float) -> float:
    """Return how much of a target's variance its query's picks remove, in the mean."""
    rule, total = VarianceReduction(noise), 0.0
    for target, own in zip(targets, picks, strict=True):
        state = rule.start(Posterior.prior(pool.shape[1]), Targets.uniform(torch.from_numpy(target[None]).double()))
        for row in torch.from_numpy(pool[own]).double():
            total += float(rule.gain(state.scores(row[None])))
            state = state.condition(row)
    return total / len(targets)


def queries_table(found: Sequence[QueriesResult], settings: QueriesSettings) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Queries: {settings.n} picks for each query, of one target, by VTL with noise variance "
        f"{settings.noise_variance:g}, from rows of {settings.dim} numbers; gain: how much of a target's variance its "
        "picks remove, in the mean",
        "",
        "| rows | who | queries | seconds | queries a second | gain |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.num_rows:,} | {each.name} | {each.num_queries:,} | {each.seconds:.3g} | "
        f"{each.num_queries / each.seconds:.3g} | {each.mean_gain:.5f} |"
        for each in found
    ]
    return "\n".join(lines)
