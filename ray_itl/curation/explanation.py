"""Why each row was picked: the targets it is near to and says most about, what it repeats, and what came second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pyarrow as pa
from torch import Tensor

from ray_itl.core.explain import Neighbours, RunnerUp, nearest_earlier, nearest_of, runners_up, target_shares
from ray_itl.core.messages import Precision
from ray_itl.core.pool import Pool
from ray_itl.core.posterior import directions
from ray_itl.core.result import GreedyResult
from ray_itl.curation.problem import Problem
from ray_itl.sources.ids import id_arrow_type, ids_to_arrow

_NAMED_TARGETS = 3


def explain(problem: Problem, pool: Pool, result: GreedyResult) -> pa.Table:
    """Return the columns that `selection.explain` adds, a row for each pick in order (see `explanation_schema`).

    One pass over the pool for the runners-up, O(N D n), and O(n D (r + M + n)) beside it.
    """
    picks = result.features
    near = nearest_of(picks, problem.targets.rows, _NAMED_TARGETS)
    shares = target_shares(
        problem.acquisition,
        problem.posterior,
        problem.targets,
        directions(problem.posterior, picks, problem.acquisition.noise_variance),
        _NAMED_TARGETS,
        problem.importance,
    )
    runners: Sequence[RunnerUp | None] = [None] * len(picks)
    if problem.baseline is None:
        runners = runners_up(
            pool,
            problem.acquisition,
            problem.start(),
            result.picks,
            picks,
            cast(Precision, result.stats.precision),
            problem.selection.replacement,
            problem.excluded,
            problem.limits.rules,
            problem.limits.limit_state(problem.selection.n),
            problem.limits.floor,
        )
    return pa.table(
        [
            *_nearest_columns(problem, near),
            [_target_names(problem, row) for row in shares.indices],
            shares.shares.tolist(),
            *_earlier_columns(result, nearest_earlier(picks)),
            [None if runner is None else runner.row_id for runner in runners],
            [None if runner is None else runner.margin for runner in runners],
        ],
        schema=explanation_schema(problem),
    )


def explanation_schema(problem: Problem) -> pa.Schema:
    """Return the columns of an explanation.

    A target is named by its id, or by its row number (from 0) where target.id_column is not set.

    - nearest_targets, nearest_target_similarity: the three targets of the largest cosine to the pick in feature space.
    - informed_targets, informed_target_share: the three targets of the largest share of the pick's gain; see
      `core.explain` for the formula. Exact for VTL; for ITL a convention, for its gain is no sum over targets.
    - nearest_earlier, nearest_earlier_similarity: of the picks before it in this run, the one of the largest cosine;
      null for the first.
    - runner_up, runner_up_margin: the best other row that could have been picked then, within all limits, and by how
      much the pick's gain exceeds its gain (their gain per cost, where rows compete by that; less what they say about
      rows to avoid). Null where there was none, and for the baselines, which do not pick by gain. Exact over the whole
      pool (see `core.runner_up`).
    """
    target = pa.int64() if problem.target_ids is None else ids_to_arrow(problem.target_ids[:0]).type
    row = id_arrow_type(problem.source.id_kind)
    return pa.schema(
        {
            "nearest_targets": pa.list_(target),
            "nearest_target_similarity": pa.list_(pa.float64()),
            "informed_targets": pa.list_(target),
            "informed_target_share": pa.list_(pa.float64()),
            "nearest_earlier": row,
            "nearest_earlier_similarity": pa.float64(),
            "runner_up": row,
            "runner_up_margin": pa.float64(),
        }
    )


def _nearest_columns(problem: Problem, near: Neighbours) -> tuple[list, list]:
    return [_target_names(problem, row) for row in near.indices], near.cosines.tolist()


def _target_names(problem: Problem, indices: Tensor) -> list[int | str]:
    names = indices.numpy() if problem.target_ids is None else problem.target_ids[indices.numpy()]
    return names.tolist()


def _earlier_columns(result: GreedyResult, earlier: Neighbours) -> tuple[list, list]:
    indices, cosines = earlier.indices[:, 0].tolist(), earlier.cosines[:, 0].tolist()
    ids = [None if index < 0 else result.picks[index].row_id for index in indices]
    return ids, [None if index < 0 else cosine for index, cosine in zip(indices, cosines, strict=True)]
