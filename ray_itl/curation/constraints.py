"""From options to what a selection may pick: limits, rows ruled out, and rows that are picked already.

The pool is counted first, so that what cannot be met is refused before anything is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ray_itl.core.limits import Limits, Reserve
from ray_itl.core.quotas import Quota, Quotas
from ray_itl.core.rules import Rules, SimilarityGuard
from ray_itl.curation.inputs import FROM_OPTIONS, Inputs
from ray_itl.curation.percentage import percentage
from ray_itl.curation.problem import Problem
from ray_itl.curation.quota_values import BoundedColumn, absent_values, bounded_columns
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.shards.loading import rows_as_stored
from ray_itl.sources.bad_rows import REMEDY, BadRows
from ray_itl.sources.costs_and_groups import CostGroupColumns, Survey, count_groups
from ray_itl.sources.lookup import ids_given, missing_ids, positions_of, read_ids
from ray_itl.text import plural


def with_limits(problem: Problem, settings: CurationSettings, expects_values: bool = True) -> Problem:
    """Return the problem with its limits. Reads the columns of quotas twice and that of costs once, if there are any.

    A tick asks for what its rows can give: minimums that they cannot meet are lowered (and reported as not met), and
    values that no row has are noted, since they may come later.

    Args:
        problem: With its lists (see `with_lists`).
        settings: All options.
        expects_values: Whether a value of quotas that no row has is refused, where it is no tick's.

    Raises:
        ConfigError: limits that no selection can meet, or values of quotas that the pool cannot or does not have, with
            the reason and what would do.
        BadRowsError: costs that are not positive numbers, and pool.on_bad_row is refuse.
    """
    chosen = settings.selection
    limits = Limits(_rules(problem, chosen), math.inf if chosen.budget is None else chosen.budget)
    limits = replace(limits, min_gain=chosen.min_gain)
    if chosen.cost_column is None and not chosen.quotas:
        return replace(problem, limits=limits)
    if problem.nothing_to_pick:
        return replace(problem, limits=limits)
    bounded = bounded_columns(problem.source, chosen.quotas)
    spec = CostGroupColumns(chosen.cost_column, tuple(each.column for each in bounded))
    bounds = [_bounds(each, problem.selection.n) for each in bounded]
    wanted = _wanted(bounds) if chosen.budget is not None and chosen.cost_column is not None else {}
    bad = BadRows()
    found = count_groups(problem.source, spec, wanted, problem.excluded, bad)
    if len(bad) and settings.pool.on_bad_row == "refuse":
        raise bad.refusal(problem.source.locate, REMEDY)
    check_number_left(problem, settings, len(bad) + len(problem.skipped))
    quotas = None
    if spec.group_columns:
        absent = absent_values(bounded, found.spec.cell_values())
        if absent and expects_values and settings.state.dir is None:
            raise ConfigError(absent[0])
        problem = replace(problem, notes=(*problem.notes, *absent))
        columns = tuple(
            Quota(column.name, column.values, least, most)
            for column, (least, most) in zip(spec.group_columns, bounds, strict=True)
        )
        quotas = Quotas(columns, found.spec.cell_values(), found.rows)
        quotas = _lowered(quotas) if settings.state.dir is not None else _checked(quotas, problem.selection.n, chosen)
    limits = replace(limits, quotas=quotas, reserve=_reserve(quotas, found, chosen))
    return replace(problem, limits=limits, cost_group_columns=found.spec)


def check_number_left(problem: Problem, settings: CurationSettings, num_bad: int) -> None:
    """Raise ConfigError where a pool without its bad rows has fewer than are asked for; ticks take what there is."""
    n, left = problem.selection.n, problem.source.num_rows - num_bad
    if num_bad and n > left and not problem.selection.replacement and settings.state.dir is None:
        raise ConfigError(
            f"selection.n={n}, but the pool has {plural(left, 'row')} that can be used ({num_bad:,} cannot): ask for 1 "
            "to that many"
        )


def _rules(problem: Problem, chosen: SelectionSettings) -> Rules | None:
    limited = {*chosen.limiting} - {"min_similarity"}  # which shards keep to without them (see `similarity_floor`)
    if not limited and chosen.cost_column is None:
        return None
    similarity = None if chosen.min_distance is None else 1.0 - chosen.min_distance
    guards = []
    if similarity is not None and problem.known is not None:
        guards.append(SimilarityGuard.around(problem.known, similarity))
    if chosen.near_target == "exclude":
        guards.append(SimilarityGuard.around(problem.targets.rows, 1.0 - chosen.target_distance))
    return Rules(chosen.per_cost, similarity, tuple(guards))


def _bounds(bounded: BoundedColumn, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the most picks of each value, shares of n rounded inwards."""
    least, most = np.zeros(len(bounded.bounds), dtype=np.int64), np.full(len(bounded.bounds), n, dtype=np.int64)
    for place, bounds in enumerate(bounded.bounds):
        low, high = bounds.get("min", 0), bounds.get("max", n)
        least[place] = math.ceil(round(low * n, 6)) if isinstance(low, float) else low
        most[place] = math.floor(round(high * n, 6)) if isinstance(high, float) else min(high, n)
    return least, most


def _wanted(bounds: list[tuple[np.ndarray, np.ndarray]]) -> dict[tuple[int, int], int]:
    """Return how many of the cheapest rows of each value the minimums take; ConfigError for several such columns."""
    with_minimum = [place for place, (least, _) in enumerate(bounds) if least.any()]
    if len(with_minimum) > 1:
        raise ConfigError(
            "selection.quotas: minimums on more than one column cannot go with selection.budget, since the cheapest "
            "way to meet them all is no longer a matter of counting: keep those of one column"
        )
    return {(p, v): int(count) for p in with_minimum for v, count in enumerate(bounds[p][0]) if count}


def _lowered(quotas: Quotas) -> Quotas:
    """Return the quotas with minimums that there are rows for."""
    columns = zip(quotas.columns, quotas.available, strict=True)
    return replace(quotas, columns=tuple(replace(q, least=np.minimum(q.least, there)) for q, there in columns))


def _checked(quotas: Quotas, n: int, chosen: SelectionSettings) -> Quotas:
    """Return the quotas; ConfigError says why they cannot be met, and what could."""
    for quota, rows in zip(quotas.columns, quotas.available, strict=True):
        for value, least, most, there in zip(quota.values, quota.least, quota.most, rows, strict=True):
            name = f"selection.quotas: {quota.column}={value}"
            if least > most:
                raise ConfigError(f"{name} has a minimum of {least} above its maximum of {most}: lower it")
            if least > there:
                raise ConfigError(f"{name} must have {least} picks, but the pool has {there} such rows: ask for fewer")
        total = int(quota.least.sum())
        if total > n:
            raise ConfigError(
                f"selection.quotas: the minimums of {quota.column} add up to {total}, more than selection.n={n}: set "
                f"selection.n={total}, or lower them"
            )
    most = quotas.largest(n)
    if most < 0:
        raise ConfigError(f"selection.quotas cannot all be met with selection.n={n}: {_what_would_do(quotas, n)}")
    if most < n and chosen.budget is None:
        raise ConfigError(
            f"selection.quotas allow {most} picks at most, fewer than selection.n={n}: set selection.n={most}, or "
            "raise maximums"
        )
    return quotas


def _what_would_do(quotas: Quotas, n: int) -> str:
    """Return the remedy that changes least: a larger n, or minimums lowered alike."""
    total = int(quotas.rows.sum())
    larger = [m for m in (2 ** np.arange(1, 40) + n) if m <= total and quotas.largest(int(m)) >= 0]
    if larger:
        low, high = n, int(larger[0])
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if quotas.largest(middle) >= 0 else (middle, high)
        return f"selection.n={high} would do"
    for percent in range(95, -1, -5):
        columns = tuple(replace(q, least=q.least * percent // 100) for q in quotas.columns)
        if replace(quotas, columns=columns).largest(n) >= 0:
            return f"the maximums stand in the way; minimums lowered to {percent}% of what they are would do"
    return "the maximums leave no row"


def _reserve(quotas: Quotas | None, found: Survey, chosen: SelectionSettings) -> Reserve | None:
    if quotas is None or not found.cheapest or chosen.budget is None:
        return None
    column = next(iter(found.cheapest))[0]
    quota = quotas.columns[column]
    costs = [found.cheapest.get((column, value), np.empty(0))[:least] for value, least in enumerate(quota.least)]
    needed = math.fsum(cost for own in costs for cost in own)
    if needed > chosen.budget:
        raise ConfigError(
            f"selection.budget={chosen.budget:g} is less than the cheapest rows cost that meet the minimums of "
            f"{quota.column}: set selection.budget={needed:g}, or lower them"
        )
    return Reserve(column, tuple(costs))


def with_lists(problem: Problem, settings: CurationSettings, inputs: Inputs = FROM_OPTIONS) -> Problem:
    """Return the problem without the rows of `selection.exclude`, and given those of `selection.include`.

    Ids in memory, if given, stand for what these options name. Ids to exclude that the pool does not have are noted,
    not refused: a list may serve many pools. One to include must be there, since nothing else tells what it taught.
    Included rows count towards no limit. Which rows may be picked is known by then, and so what `selection.n` is where
    it is a percentage: in the problem returned it is a number.

    Raises:
        InputError: a list that cannot be read, or an included id that the pool does not have (names the option).
    """
    chosen = settings.selection
    if problem.nothing_to_pick or (chosen.exclude is None and chosen.include is None):
        return problem.with_number()
    barred = [np.empty(0, dtype=np.int64) if problem.excluded is None else problem.excluded]
    if chosen.exclude is not None:
        ids = _ids(problem, settings, "exclude", inputs.exclude).unique()
        barred.append(positions_of(problem.source, ids))
        if len(barred[-1]) < len(ids):
            absent = f"selection.exclude={chosen.exclude}: {missing_ids(problem.source, ids)}"
            problem = replace(problem, notes=(*problem.notes, absent))
    if chosen.include is not None:
        ids = _ids(problem, settings, "include", inputs.include).unique()
        included = positions_of(problem.source, ids)
        if len(included) < len(ids):
            raise InputError(
                f"selection.include={chosen.include}: {missing_ids(problem.source, ids)}; leave them out, or "
                "give their embeddings as known.path"
            )
        rows = rows_as_stored(problem.feature_map, problem.source.embeddings(included), settings.pool.dtype)
        problem = replace(problem, known=rows if problem.known is None else torch.cat([problem.known, rows]))
        barred.append(included)
    problem = replace(problem, excluded=np.unique(np.concatenate(barred)))
    nothing = problem.num_free == 0
    problem = replace(problem, nothing_to_pick=nothing) if settings.state.dir is None else problem.at_most_all()
    return problem.with_number()


def with_number(settings: CurationSettings, problem: Problem, tell: Callable[[str], object]) -> CurationSettings:
    """Return the options with `selection.n` as the number that a percentage came to by `with_lists`; tells of it."""
    asked = settings.selection
    if percentage(asked.n) is None:
        return settings
    if not problem.nothing_to_pick:
        tell(f"selection.n={asked.n} of {plural(problem.num_free, 'row')}: {problem.selection.n:,}")
    return replace(settings, selection=replace(asked, n=problem.selection.n))


def _ids(problem: Problem, settings: CurationSettings, option: str, given: Any) -> pa.Array:
    """Return the ids of a list, in memory or in the file that the option names."""
    name = f"selection.{option}"
    if given is not None:
        return ids_given(given, problem.source, name)
    path = getattr(settings.selection, option)
    return read_ids(path, settings.pool.id_column, problem.source, name)
