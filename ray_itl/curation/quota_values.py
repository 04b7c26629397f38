"""The values that `selection.quotas` bounds, as values of the pool's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ray_itl.errors import ConfigError
from ray_itl.sources.base import PoolSource
from ray_itl.sources.column_values import MAX_VALUES, ColumnValues, values_of
from ray_itl.sources.costs_and_groups import OTHER, GroupColumn
from ray_itl.sources.values import Key, labels_of

EVERY = "*"
_OPTION = "selection.quotas"


class BoundedColumn(NamedTuple):
    """A column of quotas."""

    column: GroupColumn
    bounds: tuple[Mapping[str, Any], ...]
    """Of each of its values, as the option has them; empty where there are none."""
    found: ColumnValues
    """What the pool has."""
    named: int
    """How many of the values the option names; they come first."""


def bounded_columns(
    source: PoolSource, quotas: Mapping[str, Mapping[Any, Mapping[str, Any]]]
) -> tuple[BoundedColumn, ...]:
    """Return the columns of quotas with the values that are told apart. Reads the columns once.

    Raises:
        ConfigError: a value that its column cannot hold, one named twice, or a column without values to tell apart.
        InputError: a column that the pool does not have, or with values that are none.
    """
    found = values_of(source, list(quotas), _OPTION)
    return tuple(_bounded(values, quotas[values.name]) for values in found)


def absent_values(columns: Sequence[BoundedColumn], cells: np.ndarray) -> list[str]:
    """Return a sentence for every named value that no row has, given the values of the groups (G x columns)."""
    sentences = []
    for place, each in enumerate(columns):
        there = np.isin(np.arange(each.named), cells[:, place])
        for value in np.flatnonzero(~there).tolist():
            sentences.append(each.found.absent(each.column.keys[value], _OPTION))
    return sentences


def _bounded(found: ColumnValues, values: Mapping[Any, Mapping[str, Any]]) -> BoundedColumn:
    by_key: dict[Key, tuple[Any, Mapping[str, Any]]] = {}
    for value, bounds in values.items():
        if value == EVERY:
            continue
        key = found.key_of(value, _OPTION)
        if key in by_key:
            raise ConfigError(f"{_OPTION}.{found.name}: {by_key[key][0]!r} and {value!r} are the same value: keep one")
        by_key[key] = value, bounds
    named = list(by_key)
    shown, all_bounds = labels_of(named, found.kind), [bounds for _, bounds in by_key.values()]
    if EVERY in values:
        if not found.complete:
            raise ConfigError(
                f"{_OPTION}: column {found.name} has more than {MAX_VALUES:,} values: name those to limit instead of "
                f"'{EVERY}'"
            )
        rest = {label: key for label, key in found.labels().items() if key not in by_key}
        named_and_rest = (*named, *rest.values())
        all_bounds += [values[EVERY]] * len(rest)
        column = GroupColumn(found.name, found.kind, named_and_rest, (*shown, *rest))
    else:
        all_bounds.append({})
        column = GroupColumn(found.name, found.kind, tuple(named), (*shown, OTHER))
    return BoundedColumn(column, tuple(all_bounds), found, len(named))
