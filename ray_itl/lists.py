"""Rows of the pool that a user names: those that may not be picked, and those that are picked already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ray_itl.errors import InputError
from ray_itl.io.loading import stored_rows
from ray_itl.io.lookup import ids_given, positions_of, read_ids
from ray_itl.problem import Problem
from ray_itl.settings import CurationSettings


def with_lists(problem: Problem, settings: CurationSettings, exclude: Any = None, include: Any = None) -> Problem:
    """Return the problem without the rows of `selection.exclude`, and given those of `selection.include`.

    Ids in memory, if given, stand for what these options name. Ids to exclude that the pool does not have are passed
    over: a list may serve many pools. One to include must be there, since nothing else tells what it taught. Included
    rows count towards no limit.

    Raises:
        InputError: a list that cannot be read, or an included id that the pool does not have (names the option).
    """
    chosen = settings.selection
    if problem.idle or (chosen.exclude is None and chosen.include is None):
        return problem
    barred = [np.empty(0, dtype=np.int64) if problem.excluded is None else problem.excluded]
    if chosen.exclude is not None:
        barred.append(positions_of(problem.source, _ids(problem, settings, "exclude", exclude)))
    if chosen.include is not None:
        ids = _ids(problem, settings, "include", include).unique()
        included = positions_of(problem.source, ids)
        if len(included) < len(ids):
            raise InputError(
                f"selection.include={chosen.include} has {len(ids)} ids, of which the pool has {len(included)}: leave "
                "out the others, or give their embeddings as known.path"
            )
        rows = stored_rows(problem.feature_map, problem.source.embeddings(included), settings.pool.dtype)
        problem = replace(problem, known=rows if problem.known is None else torch.cat([problem.known, rows]))
        barred.append(included)
    problem = replace(problem, excluded=np.unique(np.concatenate(barred)))
    return replace(problem, idle=problem.num_free == 0) if settings.state.dir is None else problem.at_most_all()


def _ids(problem: Problem, settings: CurationSettings, option: str, given: Any) -> pa.Array:
    """Return the ids of a list, in memory or in the file that the option names."""
    name = f"selection.{option}"
    if given is not None:
        return ids_given(given, problem.source, name)
    path = getattr(settings.selection, option)
    return read_ids(path, settings.pool.id_column, problem.source, name)
