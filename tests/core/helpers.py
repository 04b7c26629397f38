"""Pools of known structure, the rules under test, and one way to run the engine and its dense reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.limits import Limits
from ray_itl.core.messages import Precision
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.result import GreedyResult
from ray_itl.core.shard import PoolShard
from ray_itl.core.trajectory import Pick
from tests.oracle import DensePick, dense_greedy

SMALL = BlockSchedule(block=8, candidates=64, max_candidates=256, max_challengers=200, focus=8)
"""Many passes, cuts and releases even on a pool of a few hundred rows."""
TINY = BlockSchedule(block=2, candidates=4, max_block=8, max_candidates=8, max_challengers=3, focus=1)
"""Overflows all the time."""

few_examples = settings(max_examples=30)
"""Of whole problems, each of which is selected from several times."""


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(num_rows: int, dim: int, seed: int) -> Tensor:
    """Rows N(0, I)."""
    return torch.randn(num_rows, dim, generator=random(seed), dtype=torch.float64)


def power_law(num_rows: int, dim: int, seed: int, exponent: float = 1.0) -> Tensor:
    """Gaussian rows whose covariance has eigenvalues k^-exponent in random directions."""
    rotation = torch.linalg.qr(normal(dim, dim, seed)).Q
    scales = torch.arange(1, dim + 1, dtype=torch.float64) ** (-exponent / 2)
    return normal(num_rows, dim, seed + 1) * scales @ rotation


def clustered(num_rows: int, dim: int, seed: int, num_clusters: int = 7, spread: float = 0.3) -> Tensor:
    """Unit rows around a few centres."""
    centres = torch.nn.functional.normalize(normal(num_clusters, dim, seed), dim=1)
    which = torch.randint(num_clusters, (num_rows,), generator=random(seed + 1))
    return torch.nn.functional.normalize(centres[which] + spread * dim**-0.5 * normal(num_rows, dim, seed + 2), dim=1)


def with_copies(rows: Tensor, share: float, seed: int) -> Tensor:
    """Overwrite a share of the rows by copies of others, every second one with its sign flipped: exact ties."""
    rows = rows.clone()
    order = torch.randperm(len(rows), generator=random(seed))
    num = int(share * len(rows))
    copies = rows[order[torch.randint(num, len(rows), (num,), generator=random(seed + 1))]]
    copies[::2] *= -1
    rows[order[:num]] = copies
    return rows


def with_zeros(rows: Tensor, share: float, seed: int) -> Tensor:
    """Overwrite a share of the rows by zeros."""
    rows = rows.clone()
    rows[torch.randperm(len(rows), generator=random(seed))[: int(share * len(rows))]] = 0.0
    return rows


def shuffled_ids(num_rows: int, seed: int) -> np.ndarray:
    """Distinct int64 ids in an order that is not that of the rows."""
    return 7 * np.random.default_rng(seed).permutation(num_rows).astype(np.int64) - 1000


def as_text(ids: np.ndarray) -> np.ndarray:
    """The ids as strings of variable width in the same order."""
    texts = [f"{'row' if i < 0 else 'säule'}-{i + 10**6:09d}" for i in ids.tolist()]
    return np.array(texts, dtype=np.dtypes.StringDType())


def as_number(row_id: int | str) -> int:
    """Take `as_text` back."""
    return int(row_id.rsplit("-")[-1]) - 10**6 if isinstance(row_id, str) else row_id


def make_shards(features: Tensor, ids: np.ndarray, num_shards: int) -> list[PoolShard]:
    """Split rows over shards of uneven size (some may be empty)."""
    ends = [round(len(ids) * ((k + 1) / num_shards) ** 1.5) for k in range(num_shards)]
    starts = [0, *ends[:-1]]
    return [PoolShard(MemoryFeatures(features[a:b].clone()), ids[a:b], a) for a, b in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class Rule:
    """An acquisition rule in the engine's terms and in the reference's."""

    name: str
    dense: str
    exact_targets: bool = False

    def target_noise(self, noise: float) -> float:
        return 0.0 if self.exact_targets else noise

    def acquisition(self, noise: float) -> Acquisition:
        if self.dense == "vtl":
            return VarianceReduction(noise)
        if self.dense == "uncertainty":
            return Uncertainty(noise)
        return InformationGain(noise, target_noise_variance=0.0 if self.exact_targets else None)


ITL = Rule("itl", "itl")
ITL_EXACT = Rule("itl-eq43", "itl", exact_targets=True)
VTL = Rule("vtl", "vtl")
UNCERTAINTY = Rule("uncertainty", "uncertainty")
RULES = [ITL, ITL_EXACT, VTL, UNCERTAINTY]


@dataclass(frozen=True)
class Problem:
    """Everything that decides which rows are picked."""

    rule: Rule
    pool: Tensor
    """N x D in the storage dtype."""
    ids: np.ndarray
    targets: Targets
    noise: float
    known: Tensor | None = None
    replacement: bool = False
    min_gain: float = 0.0
    excluded: tuple[int, ...] = ()

    def dense(self, n: int) -> list[DensePick]:
        return dense_greedy(
            self.rule.dense,
            self.pool.to(torch.float64),
            self.ids,
            self.targets,
            n,
            self.noise,
            self.rule.target_noise(self.noise),
            self.known,
            self.replacement,
            self.min_gain,
            self.excluded,
        )

    def dense_ids(self, n: int) -> list[int]:
        return self.ids[[pick.index for pick in self.dense(n)]].tolist()

    def posterior(self) -> Posterior:
        prior = Posterior.prior(self.pool.shape[1])
        return prior if self.known is None else prior.condition_on_rows(self.known, self.noise)

    def selector(
        self, num_shards: int = 1, schedule: BlockSchedule | None = None, screening: Precision | None = None
    ) -> GreedySelector:
        acquisition = self.rule.acquisition(self.noise)
        state = acquisition.start(self.posterior(), self.targets)
        pool = LocalPool(make_shards(self.pool, self.ids, num_shards))
        excluded = np.array(self.excluded, dtype=np.int64)
        return GreedySelector(
            pool,
            acquisition,
            state,
            self.replacement,
            schedule,
            limits=Limits(min_gain=self.min_gain),
            excluded=excluded,
            screening=screening,
        )

    def select(
        self,
        n: int,
        num_shards: int = 1,
        schedule: BlockSchedule | None = None,
        earlier: Sequence[tuple[Pick, Tensor]] = (),
        screening: Precision | None = None,
    ) -> GreedyResult:
        return self.selector(num_shards, schedule, screening).select(n, earlier)

    def shuffle(self, seed: int) -> Problem:
        """The same rows in another order, ids with them."""
        order = torch.randperm(len(self.ids), generator=random(seed))
        return replace(self, pool=self.pool[order], ids=self.ids[order.numpy()])


def picked(result: GreedyResult) -> list[int]:
    """The ids picked, as numbers."""
    return [as_number(pick.row_id) for pick in result.picks]
