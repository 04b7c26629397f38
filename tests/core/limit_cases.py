"""Combinations of limits on one small pool, for the engine and for its dense reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.limits import Limits, Reserve
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.quotas import Quota, Quotas
from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.core.rules import Rules, SimilarityGuard, cosines, unit_rows
from ray_itl.core.shard import PoolShard
from ray_itl.core.similarity_floor import SimilarityFloor, target_directions
from tests.combinations import covering
from tests.core.helpers import ITL, SMALL, TINY, UNCERTAINTY, VTL, Rule, clustered, shuffled_ids
from tests.oracle import DenseLimits, DensePick, DenseQuota, dense_greedy, first_in_order

N, DIM, PICKS, NOISE = 160, 8, 20, 0.1
_LANGUAGES = ["de", "en", "fr"]
_SOURCES = ["books", "web"]


@dataclass(frozen=True)
class Case:
    """Which limits are on."""

    budget: bool = False
    per_cost: bool = False
    most: bool = False
    least: bool = False
    two_columns: bool = False
    distance: bool = False
    guard: bool = False
    """Neither rows too much like a target, nor those too unlike all of them."""
    avoid: bool = False
    stop: bool = False


def pool_of(dtype: torch.dtype) -> Tensor:
    rows = clustered(N, DIM, 1, num_clusters=12, spread=0.35) * torch.linspace(0.5, 1.5, N).double()[:, None]
    return rows.to(dtype)


IDS = shuffled_ids(N, 2)
_RNG = np.random.default_rng(5)
COSTS = torch.from_numpy(_RNG.integers(1, 9, N).astype(np.float64))
LANGUAGE = [_LANGUAGES[i] for i in _RNG.choice(3, N, p=[0.1, 0.6, 0.3])]
SOURCE = [_SOURCES[i] for i in _RNG.choice(2, N, p=[0.3, 0.7])]
TARGETS = Targets.uniform(clustered(6, DIM, 3))
AVOID = Targets.uniform(clustered(4, DIM, 7))
WEIGHT = 0.6
LIKE = 0.9
_NEAR_TARGET = 0.85
FLOOR = SimilarityFloor(target_directions(TARGETS), 0.45)


def columns_of(case: Case) -> list[DenseQuota]:
    columns = []
    if case.most or case.least:
        most = {"en": 6} if case.most else {}
        columns.append(DenseQuota(LANGUAGE, {"de": 4, "fr": 5} if case.least else {}, most))
    if case.two_columns:
        least = {"books": 7} if case.least and not case.budget else {}
        columns.append(DenseQuota(SOURCE, least, {"web": 11}))
    return columns


def dense_limits(case: Case, pool: Tensor) -> DenseLimits:
    units = unit_rows(pool)
    likeness = cosines(pool, unit_rows(TARGETS.rows)).amax(dim=1)
    barred = (likeness > _NEAR_TARGET) | (likeness < FLOOR.limit)
    return DenseLimits(
        PICKS,
        COSTS if case.budget or case.per_cost else torch.ones(N, dtype=torch.float64),
        60.0 if case.budget else math.inf,
        case.per_cost,
        columns_of(case),
        cosines(pool, units) if case.distance else None,
        LIKE,
        frozenset(torch.nonzero(barred).flatten().tolist()) if case.guard else frozenset(),
    )


def min_gain(case: Case) -> float:
    return (0.012 if case.budget or case.per_cost else 0.02) if case.stop else 0.0


def others(case: Case) -> list[tuple[Targets, float]]:
    return [(AVOID, -WEIGHT)] if case.avoid else []


@cache
def expected_picks(rule: Rule, case: Case, dtype: torch.dtype) -> list[DensePick]:
    pool = pool_of(dtype).to(torch.float64)
    return dense_greedy(
        rule.dense, pool, IDS, TARGETS, PICKS, NOISE, rule.target_noise(NOISE), min_gain=min_gain(case),
        limits=dense_limits(case, pool), others=others(case),
    )  # fmt: skip


def dense_runners_up(
    picks: list[DensePick], limits: DenseLimits, ids: np.ndarray, scale: float
) -> list[tuple[int, float] | None]:
    """At each step the first of the rows that may be picked, but for the pick, and by what that is ahead of it."""
    limits = limits.begin()
    available, taken = torch.ones(len(ids), dtype=torch.bool), []
    found: list[tuple[int, float] | None] = []
    for pick in picks:
        could = available & limits.may_pick(taken, available)
        could[pick.index] = available[pick.index] = False
        taken.append(pick.index)
        if not could.any():
            found.append(None)
            continue
        second = first_in_order(pick.gains.masked_fill(~could, -math.inf), ids, scale, limits.prices)
        values = pick.gains / limits.prices
        found.append((second, float(values[pick.index] - values[second])))
    return found


def engine_quotas(columns: list[DenseQuota], num_rows: int) -> tuple[Quotas, Tensor]:
    """The same quotas for the engine, and each row's group."""
    names = [sorted(set(column.values)) for column in columns]
    labels = list(zip(*(column.values for column in columns), strict=True))
    cells = sorted(set(labels))
    groups = torch.tensor([cells.index(label) for label in labels])
    quotas = tuple(
        Quota(
            f"column {place}",
            tuple(values),
            np.array([column.least.get(value, 0) for value in values]),
            np.array([column.most.get(value, num_rows) for value in values]),
        )
        for place, (column, values) in enumerate(zip(columns, names, strict=True))
    )
    places = np.array([[values.index(v) for v, values in zip(cell, names, strict=True)] for cell in cells])
    return Quotas(quotas, places, np.bincount(groups.numpy(), minlength=len(cells))), groups


def _reserve(columns: list[DenseQuota], costs: Tensor) -> Reserve | None:
    for place, column in enumerate(columns):
        if column.least:
            names = sorted(set(column.values))
            own = {n: sorted(float(c) for c, v in zip(costs, column.values, strict=True) if v == n) for n in names}
            return Reserve(place, tuple(np.array(own[name][: column.least.get(name, 0)]) for name in names))
    return None


def limits_of(case: Case, pool: Tensor) -> tuple[Limits, CostsAndGroups]:
    dense, columns = dense_limits(case, pool), columns_of(case)
    quotas, groups = engine_quotas(columns, N) if columns else (None, torch.zeros(N, dtype=torch.int64))
    guards = (SimilarityGuard.around(TARGETS.rows, _NEAR_TARGET),) if case.guard else ()
    rules = Rules(case.per_cost, LIKE if case.distance else None, guards)
    reserve = _reserve(columns, dense.costs) if case.budget else None
    limits = Limits(rules, dense.budget, quotas, reserve, min_gain(case), floor=FLOOR if case.guard else None)
    return limits, CostsAndGroups(dense.costs, groups)


def local_pool(case: Case, dtype: torch.dtype, num_shards: int) -> LocalPool:
    """The pool in shards of uneven size."""
    pool = pool_of(dtype)
    _, costs_and_groups = limits_of(case, pool)
    ends = [round(N * ((k + 1) / num_shards) ** 1.5) for k in range(num_shards)]
    parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    return LocalPool(
        [
            PoolShard(
                MemoryFeatures(pool[part].clone()),
                IDS[part],
                part.start,
                costs_and_groups=CostsAndGroups(costs_and_groups.costs[part], costs_and_groups.groups[part]),
            )
            for part in parts
        ]
    )


def started(rule: Rule, case: Case) -> tuple[Acquisition, AcquisitionState]:
    """The rule, which subtracts the rows to avoid, and its state before the first pick."""
    acquisition, tasks = rule.acquisition(NOISE), [TARGETS]
    if case.avoid:
        assert isinstance(acquisition, InformationGain | VarianceReduction)
        acquisition, tasks = replace(acquisition, task_weights=(1.0, -WEIGHT)), [TARGETS, AVOID]
    return acquisition, acquisition.start(Posterior.prior(DIM), *tasks)


def selector_of(
    rule: Rule, case: Case, dtype: torch.dtype, num_shards: int, schedule: BlockSchedule | None
) -> GreedySelector:
    limits, _ = limits_of(case, pool_of(dtype))
    pool, (acquisition, state) = local_pool(case, dtype, num_shards), started(rule, case)
    return GreedySelector(pool, acquisition, state, schedule=schedule, limits=limits)


Combination = tuple[Rule, Case, int, BlockSchedule, torch.dtype]
_FLAGS = [[False, True]] * len(Case.__dataclass_fields__)
_SETUPS = [[1, 3], [TINY, SMALL], [torch.float32, torch.float16, torch.float64]]
CASES = [Case(*flags) for flags in product(*_FLAGS)]


def combinations(strength: int) -> list[Combination]:
    """Every choice of so many of: rule, a limit on or off, number of shards, schedule, storage type."""
    found: list[Combination] = []
    for rule, *values in covering([[ITL, VTL, UNCERTAINTY], *_FLAGS, *_SETUPS], strength):
        case, setup = Case(*values[: len(_FLAGS)]), values[len(_FLAGS) :]
        if rule is UNCERTAINTY and case.avoid:  # which it cannot: once without, and once by another rule
            found.append((ITL, case, *setup))
            case = replace(case, avoid=False)
        found.append((rule, case, *setup))
    return found


def all_combinations(rule: Rule, first: int, step: int) -> Iterator[Combination]:
    """All limits with a rule, every `step`-th of them; shards, schedule and storage go round with their number."""
    setups = list(product(*_SETUPS))
    for index in range(first, len(CASES), step):
        if rule is not UNCERTAINTY or not CASES[index].avoid:
            yield rule, CASES[index], *setups[index * 7 % len(setups)]
