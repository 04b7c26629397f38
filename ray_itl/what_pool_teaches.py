"""How little a selection needs to leave unknown: a share of what all rows of the pool could teach about the targets."""

from __future__ import annotations

import torch

from ray_itl.io.loading import stored_rows
from ray_itl.problem import Problem


def enough_variance(problem: Problem, first: float, noise_variance: float, dtype: str) -> float:
    """Return the targets' variance at which `selection.share` is reached.

    The variance given known rows K and all pool rows X is sum_a w_a a'(I + (K'K + X'X) / s2)^-1 a.

    Args:
        problem: The problem, with a share.
        first: sum_a w_a k(a, a) before the first pick.
        noise_variance: s2.
        dtype: In which the shards held rows.

    Reads the pool once: O(N D^2).
    """
    precision = torch.eye(problem.dim, dtype=torch.float64)
    if problem.known is not None:
        precision += problem.known.mT @ problem.known / noise_variance
    for _, embeddings in problem.source.batches(0, problem.source.num_rows):
        rows = stored_rows(problem.feature_map, embeddings, dtype)
        precision += rows.mT @ rows / noise_variance
    factor = torch.linalg.cholesky(precision)
    whitened = torch.linalg.solve_triangular(factor, problem.targets.weighted.mT, upper=False)
    last = float(whitened.square().sum())
    return first - (problem.selection.share or 0.0) * (first - last)
