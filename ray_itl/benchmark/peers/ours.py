"""ray_itl itself, in one process: ITL, ITL with noiseless targets, VTL."""

from __future__ import annotations

import numpy as np

from ray_itl.benchmark.peers.peer import Peer, Problem
from ray_itl.core.acquisition import Acquisition
from ray_itl.core.acquisitions import InformationGain, VarianceReduction
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior
from ray_itl.core.shard import PoolShard
from ray_itl.core.store import MemoryFeatures

ITL, NOISELESS, VTL = "ray_itl ITL", "ray_itl ITL, noiseless targets", "ray_itl VTL"


def _select(problem: Problem, rule: Acquisition) -> list[int]:
    shard = PoolShard(MemoryFeatures(problem.pool_tensor), np.arange(len(problem.pool)), 0)
    state = rule.start(Posterior.prior(problem.pool.shape[1]), problem.exact_targets)
    result = GreedySelector(LocalPool([shard]), rule, state).select(problem.n)
    return [pick.position for pick in result.picks]


OURS = (
    Peer(ITL, "", "exact greedy", lambda p: _select(p, InformationGain(p.noise_variance))),
    Peer(NOISELESS, "", "target_noise_variance=0", lambda p: _select(p, InformationGain(p.noise_variance, 0.0))),
    Peer(VTL, "", "exact greedy", lambda p: _select(p, VarianceReduction(p.noise_variance))),
)
