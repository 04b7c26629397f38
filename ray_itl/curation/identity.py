"""What decides the result of a run, as digests: a run directory may only be continued when none of it changed."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import Tensor

from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.options.declare import deciding, value_of
from ray_itl.runs.fingerprint import file_digest, pool_fingerprint, tensor_digest
from ray_itl.sources.encoding import encoding_of

ASKED = ("pool.columns", "selection.explain")
"""Options that decide what is written of the picks, and no pick: on record beside the identity, which they are not."""


def recorded_identity(problem: Problem, settings: CurationSettings) -> dict[str, str]:
    """Return what a run directory keeps: the identity, and what was asked for."""
    return {**run_identity(problem, settings), **{name: repr(value_of(settings, name)) for name in ASKED}}


def run_identity(problem: Problem, settings: CurationSettings) -> dict[str, str]:
    """Return name -> digest or value of everything that decides the picks: options that decide, and the rows."""
    none, encoding = torch.empty(0), encoding_of(problem.source)
    excluded = (
        {}
        if problem.excluded is None
        else {"rows excluded or picked before": tensor_digest(torch.from_numpy(problem.excluded))}
    )
    return {
        "pool": pool_fingerprint(problem.source),
        "targets": _digest(problem, "target", problem.targets.rows, problem.targets.weights),
        **({} if not problem.tasks else {"tasks": _tasks_digest(problem)}),
        **({} if problem.avoid is None else {"rows to avoid": _digest(problem, "avoid", problem.avoid.rows)}),
        **({} if problem.heldout is None else {"held-out rows": problem.heldout.digest}),
        "known rows": _digest(problem, "known", none if problem.known is None else problem.known),
        "limits": _limits_digest(problem),
        "contents of pool.prior_covariance": file_digest(settings.pool.prior_covariance),
        **({} if encoding is None else {"encoder": f"{encoding.digest} of column {encoding.column}"}),
        **excluded,
        **deciding(settings),
    }


def _digest(problem: Problem, what: str, rows: Tensor, *others: Tensor) -> str:
    """Return a digest of rows: of what was embedded where they were, as embedding anew may change their last bits."""
    if what not in problem.contents:
        return tensor_digest(rows, *others)
    count, content = problem.contents[what]
    return f"{content} {tensor_digest(rows[count:], *others)}"


def _limits_digest(problem: Problem) -> str:
    """Return a digest of costs and groups of the pool's rows, so far as limits look at them; "" without."""
    if problem.cost_group_columns is None:
        return ""
    columns = [] if problem.limits.quotas is None else problem.limits.quotas.columns
    values = [(quota.column, quota.values, quota.least.tolist(), quota.most.tolist()) for quota in columns]
    return sha256(repr((problem.cost_group_columns.cells, values)).encode()).hexdigest()


def _tasks_digest(problem: Problem) -> str:
    return sha256(
        repr([(task.name, task.weight, task.members.tolist()) for task in problem.tasks]).encode()
    ).hexdigest()
