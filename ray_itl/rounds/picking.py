"""One round's picks: the rule, applied to the pool or its candidates, given everything picked before.

One of the rules is BADGE: k-means++ seeding on gradient embeddings (Ash et al., ICLR 2020, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.baselines import BaselineRule, select_baseline
from ray_itl.core.feature_store import FeatureStore
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.linalg import squared_norms
from ray_itl.core.messages import Request, ScoreSpec
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.ranking import hash_order
from ray_itl.core.trajectory import Pick
from ray_itl.curation.rules import build_acquisition
from ray_itl.curation.settings import BASELINE_RULES
from ray_itl.rounds.group_settings import RuleSettings
from ray_itl.shards.loading import STORAGE_DTYPES, load_shard
from ray_itl.sources.base import PoolSource


def kmeans_plus_plus(features: FeatureStore, ids: np.ndarray, n: int, seed: int) -> list[int]:
    """Draw n rows one after another, each with probability proportional to its squared distance to those drawn.

    The first is the row of largest norm, as in the authors' code. A draw is the race argmin_i -log(u_i) / d_i^2 with
    u_i a hash of (seed, step, id), so it depends on the rows' ids and not on their order. Where every row left is a
    copy of one drawn, the smallest id comes next.

    Args:
        features: N x D, in memory.
        ids: N distinct row ids.
        n: Number of rows, 1 <= n <= N.
        seed: Fixes the draws.

    Returns:
        Indices of the rows in the order drawn. O(n N D).
    """
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.argsort(ids, kind="stable")] = np.arange(len(ids))
    drawn = [_first(-_by_chunk(features, torch.zeros(1)), np.zeros(len(ids), dtype=bool), rank)]
    distances = np.full(len(ids), np.inf)
    for step in range(1, n):
        distances = np.minimum(
            distances, _by_chunk(features, features.rows(torch.tensor(drawn[-1:])).to(torch.float64))
        )
        out = np.zeros(len(ids), dtype=bool)
        out[drawn] = True
        with np.errstate(divide="ignore"):
            # hash_order lies in [0, 1): 1 - u never is 0.
            times = -np.log1p(-hash_order(ids, _stream(seed, step))) / np.where(out, 0.0, distances)
        drawn.append(_first(np.where(distances > 0, times, np.inf), out, rank))
    return drawn


def _by_chunk(features: FeatureStore, centre: Tensor) -> np.ndarray:
    """Return |x - centre|^2 of every row in float64, a chunk at a time."""
    parts = [squared_norms(rows.to(torch.float64) - centre) for _, rows in features.chunks()]
    return torch.cat(parts).numpy()


def _first(times: np.ndarray, out: np.ndarray, rank: np.ndarray) -> int:
    """Return the row of least time that is not out, the smallest id among equals."""
    tied = np.flatnonzero(~out & (times == times[~out].min()))
    return int(tied[rank[tied].argmin()])


def _stream(seed: int, step: int) -> int:
    """Return a seed of its own for every step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class RoundContext:
    """What a rule knows when a round begins; all features are of the current embedding."""

    rule: RuleSettings
    targets: Tensor
    """M x D float64."""
    earlier: Sequence[Pick]
    earlier_features: Tensor
    """As stored in the shards, one row an earlier pick, float64."""
    seed: int
    """Of this round."""
    dtype: str
    """Storage of features."""
    barred: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Positions of rows that may not be picked besides."""
    num_before: int = 0
    """All picks of the rounds before, those without a label included."""

    def on(self, pool: Pool) -> RoundContext:
        """Return the context with the noise variance as a number, relative to the rows of a pool where it is that."""
        return replace(self, rule=self.rule.on_rows(pool.mean_squared_norm(), len(self.targets)))

    @property
    def acquisition(self) -> Acquisition:
        """The sequential rule; for a baseline ITL, by which its picks are valued."""
        return build_acquisition(self.rule)

    @property
    def posterior(self) -> Posterior:
        """The weight posterior given everything picked before."""
        prior = Posterior.prior(self.targets.shape[1])
        return prior.condition_on_rows(self.earlier_features, self.acquisition.noise_variance)

    @property
    def state(self) -> AcquisitionState:
        """The acquisition's state given everything picked before."""
        return self.acquisition.start(self.posterior, Targets.uniform(self.targets))

    def by_baseline(self, pool: Pool, count: int, excluded: np.ndarray | None = None) -> list[Pick]:
        """Pick rows of a pool by the rule, which is a baseline, as `select_baseline` does."""
        return select_baseline(
            pool,
            cast(BaselineRule, self.rule.name),
            Targets.uniform(self.targets),
            count,
            self.acquisition,
            self.state,
            self.seed,
            excluded,
            num_before=self.num_before,
        ).picks

    @property
    def taken(self) -> np.ndarray:
        """Positions of earlier picks, and of rows that may not be picked besides."""
        return np.concatenate([np.array([pick.position for pick in self.earlier], dtype=np.int64), self.barred])


def pick_from_pool(pool: Pool, context: RoundContext, count: int) -> list[Pick]:
    """Pick `count` rows of a whole pool by any rule but badge.

    Sequential rules pick exactly (see `GreedySelector`), conditioned on the earlier picks, which are not picked again.

    Raises:
        ConfigError: fewer rows are left than asked for.
    """
    context = context.on(pool)
    if context.rule.name in BASELINE_RULES:
        return context.by_baseline(pool, count, context.taken)
    acquisition = context.acquisition
    prior = acquisition.start(Posterior.prior(pool.dim), Targets.uniform(context.targets))
    earlier = list(zip(context.earlier, context.earlier_features, strict=True))
    selector = GreedySelector(pool, acquisition, prior, excluded=context.barred)
    result = selector.select(len(earlier) + count, earlier)
    return result.picks[len(earlier) :]


def pick_from_candidates(candidates: PoolSource, context: RoundContext, count: int) -> list[Pick]:
    """Pick `count` of some rows, none of them picked earlier, that are read into this process; any rule.

    Positions of the picks are those among the candidates; a gain that the rule does not give is nan.
    """
    shard = load_shard(candidates, 0, candidates.num_rows, Identity(), STORAGE_DTYPES[context.dtype])
    if context.rule.name == "badge":
        places = kmeans_plus_plus(shard.features, shard.ids, count, context.seed)
        return [Pick(place, shard.ids[place : place + 1].tolist()[0], float("nan")) for place in places]
    # Earlier picks are not among the candidates: the posterior alone carries what they taught.
    pool = LocalPool([shard])
    context = context.on(pool)
    if context.rule.name in BASELINE_RULES:
        return context.by_baseline(pool, count)
    return GreedySelector(pool, context.acquisition, context.state).select(count).picks


def best_candidates(pool: Pool, context: RoundContext, count: int) -> np.ndarray:
    """Return positions of about `count` rows of the largest gain given the earlier picks, ascending. One pass."""
    context = context.on(pool)
    pool.restore(ScoreSpec.of(context.acquisition, context.state, "float32"), context.taken)
    return np.sort(pool.propose(Request(count)).positions)
