"""Without a package: careful greedy ITL in torch with one pass over the pool for each pick, and rows at random."""

from __future__ import annotations

import numpy as np

from ray_itl.benchmark.peers.peer import Peer, Problem
from ray_itl.core.reference import one_pass_per_pick

RANDOM = "random"


def _greedy(problem: Problem) -> list[int]:
    return one_pass_per_pick(problem.pool_tensor, problem.exact_targets, problem.n, problem.noise_variance)


def _random(problem: Problem) -> list[int]:
    return np.random.default_rng(0).choice(len(problem.pool), problem.n, replace=False).tolist()


PLAIN = (
    Peer("torch, one pass a pick", "", "greedy ITL in float32", _greedy),
    Peer(RANDOM, "", "uniformly, for scale", _random),
)
