"""What a user might pick rows with instead, each package used as its documentation says, and ray_itl itself.

- ray_itl, in one process: ITL, ITL with noiseless targets, VTL.
- Without a package: careful greedy ITL in torch with one pass over the pool for each pick, and rows at random.
- activeft: VTL as its loader does it, in one minibatch, and after a faiss search. Not here: its ITL, whose gains leave
  the noise out of the ratio that its documentation gives; and its SIFT-Fast (LazyVTL), whose queue starts from the mean
  of the targets, which bounds the gains for a single target only. Its loaders may pick a row more than once, and where
  minibatches need a third round (N > 1,000^2 / n) activeft 0.1.1 ends with an IndexError, as it looks up rows of the
  pool by number in what the second round has left.
- submodlib: LogDetMI, whose value is twice I(y_A; y_X): greedy ITL with a dense kernel, in C++, by one thread. The
  function is not submodular, so its lazy greedy is a heuristic; it is the faster one.
- apricot: a feature-based function of the similarities to the targets, and facility location, which knows no target.
  The features of a row are its inner products with the targets, negative ones set to 0; the function then is
  sum_a sqrt(sum_x x.a), which wants every target served and the same one not again and again. The optimizers are the
  faster ones of naive, lazy and two-stage, which pick the same. apricot compiles its loops anew in every call, for a
  second or more.
- faiss: for each target in turn its nearest row that was not taken yet, by an exact search without an index
  (faiss.knn), which would copy the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.reference import one_pass_per_pick
from ray_itl.core.shard import PoolShard

_ACTIVE_FT_MODULES = ("activeft", "activeft.sift")
_ACTIVE_FT = "activeft"
_CANDIDATES = 1000
"""How many rows faiss hands to VTL: the number in activeft's documentation."""
_APRICOT_MODULES = ("apricot",)
_APRICOT = "apricot-select"
_SUBMODLIB_MODULES = ("submodlib",)
_SUBMODLIB = "submodlib-py"
ITL, NOISELESS, VTL = "ray_itl ITL", "ray_itl ITL, noiseless targets", "ray_itl VTL"
RANDOM = "random"


@dataclass(frozen=True)
class Problem:
    """One selection: the same for all peers."""

    pool: np.ndarray
    """N x D float32."""
    targets: np.ndarray
    """M x D float32."""
    n: int
    """Number of picks, 1 <= n < N."""
    noise_variance: float
    num_threads: int

    @property
    def pool_tensor(self) -> Tensor:
        """The pool, N x D float32; shares its memory."""
        return torch.from_numpy(self.pool)

    @property
    def target_tensor(self) -> Tensor:
        """The targets, M x D float32; shares their memory."""
        return torch.from_numpy(self.targets)

    @cached_property
    def exact_targets(self) -> Targets:
        """The targets in float64, of weight 1."""
        return Targets.uniform(self.target_tensor.to(torch.float64))


@dataclass(frozen=True)
class Peer:
    """A way to pick rows."""

    name: str
    """In tables, unique."""
    package: str
    """The distribution on PyPI that it needs; "" where that is this project."""
    how: str
    """The setting, in a few words."""
    select: Callable[[Problem], Sequence[int]]
    """From a Problem to the indices of n picks, in order. All it does counts: indices and kernels that it builds, code
    that it compiles."""
    modules: tuple[str, ...] = ()
    """What it imports. They are loaded before the time counts."""

    def version(self) -> str | None:
        """Return the version of its package, "" where it needs none; None if it is not installed."""
        try:
            return version(self.package) if self.package else ""
        except PackageNotFoundError:
            return None


class _Rows:
    """The pool as a data set whose items are rows: what the loader asks for."""

    def __init__(self, problem: Problem) -> None:
        self._rows = problem.pool_tensor

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


def _loader(problem: Problem, mini_batch_size: int) -> list[int]:
    """Pick by hierarchical composition of minibatches, or exactly where one holds all rows.

    The noise is that of all peers: by default activeft takes a variance of 0.01.
    """
    from activeft import ActiveDataLoader

    acquisition = _vtl(problem, mini_batch_size)
    picks, _ = ActiveDataLoader(_Rows(problem), problem.n, acquisition).next()  # type: ignore[arg-type]
    return picks.tolist()


def retriever(problem: Problem) -> Callable[[bool], list[int]]:
    """Return a selection among the rows nearest to the targets' mean, as activeft advises for large data.

    Returns:
        What picks by an index that is there already, told whether to look for the rows nearest to the opposite of the
        mean, too: by default it does. That is a second search, and changes picks only where it finds nearer ones.
    """
    import faiss
    from activeft.sift import Retriever

    index = faiss.IndexFlatIP(problem.pool.shape[1])
    index.add(problem.pool)  # type: ignore[call-arg]
    count = min(_CANDIDATES, len(problem.pool))

    def pick(opposite: bool) -> list[int]:
        found = Retriever(index, _vtl(problem, count), also_query_opposite=opposite)
        _, picks, _, _ = found.search(problem.targets, N=problem.n, K=count, threads=problem.num_threads)
        return picks.tolist()

    return pick


def batch_search(
    pool: np.ndarray, targets: np.ndarray, n: int, noise_variance: float, nearest: int
) -> Callable[[], list[np.ndarray]]:
    """Return activeft's search for many queries, each of one target, by an index that is there already.

    It picks by VTL among so many rows nearest to a query, and those nearest to its opposite, as it does by default.
    """
    import faiss
    from activeft.sift import Retriever

    index = faiss.IndexFlatIP(pool.shape[1])
    index.add(pool)  # type: ignore[call-arg]
    search, threads = Retriever(index, llambda=noise_variance), torch.get_num_threads()
    return lambda: list(search.batch_search(targets[:, None], N=n, K=nearest, threads=threads)[1])


def _vtl(problem: Problem, mini_batch_size: int) -> Any:
    from activeft.acquisition_functions.vtl import VTL

    noise = problem.noise_variance**0.5
    return VTL(target=problem.target_tensor, noise_std=noise, mini_batch_size=max(mini_batch_size, problem.n + 1))


ACTIVEFT = (
    Peer(
        "activeft VTL", _ACTIVE_FT, "its default: minibatches of 1,000", lambda p: _loader(p, 1000), _ACTIVE_FT_MODULES
    ),
    Peer("activeft VTL, flat", _ACTIVE_FT, "one minibatch", lambda p: _loader(p, len(p.pool)), _ACTIVE_FT_MODULES),
    Peer(
        "activeft Retriever",
        _ACTIVE_FT,
        "VTL on the 1,000 nearest by faiss",
        lambda p: retriever(p)(True),
        _ACTIVE_FT_MODULES,
    ),
)


def _feature_based(problem: Problem) -> list[int]:
    from apricot import FeatureBasedSelection

    similarities = np.maximum(problem.pool @ problem.targets.T, 0).astype(np.float64)
    return FeatureBasedSelection(problem.n, optimizer="lazy").fit(similarities).ranking.tolist()


def _facility_location(problem: Problem) -> list[int]:
    from apricot import FacilityLocationSelection

    selector = FacilityLocationSelection(problem.n, metric="cosine", optimizer="two-stage")
    return selector.fit(problem.pool).ranking.tolist()


APRICOT = (
    Peer("apricot feature-based", _APRICOT, "similarities to the targets, sqrt", _feature_based, _APRICOT_MODULES),
    Peer("apricot facility location", _APRICOT, "cosine; no target", _facility_location, _APRICOT_MODULES),
)


def _select_by_submodlib(problem: Problem, optimizer: str) -> list[int]:
    """Pick by LogDetMI, with kernels from matrix products: its own are several times slower and the same."""
    from submodlib import LogDeterminantMutualInformationFunction

    pool, targets = problem.pool, problem.targets
    function = LogDeterminantMutualInformationFunction(
        n=len(pool),
        num_queries=len(targets),
        lambdaVal=problem.noise_variance,
        data_sijs=pool @ pool.T,
        query_sijs=pool @ targets.T,
        query_query_sijs=targets @ targets.T,
    )
    return [index for index, _ in function.maximize(problem.n, optimizer=optimizer, show_progress=False)]


SUBMODLIB = (
    Peer(
        "submodlib LogDetMI",
        _SUBMODLIB,
        "NaiveGreedy",
        lambda p: _select_by_submodlib(p, "NaiveGreedy"),
        _SUBMODLIB_MODULES,
    ),
    Peer(
        "submodlib LogDetMI, lazy",
        _SUBMODLIB,
        "LazyGreedy",
        lambda p: _select_by_submodlib(p, "LazyGreedy"),
        _SUBMODLIB_MODULES,
    ),
)


def _select_by_ours(problem: Problem, rule: Acquisition) -> list[int]:
    shard = PoolShard(MemoryFeatures(problem.pool_tensor), np.arange(len(problem.pool)), 0)
    state = rule.start(Posterior.prior(problem.pool.shape[1]), problem.exact_targets)
    result = GreedySelector(LocalPool([shard]), rule, state).select(problem.n)
    return [pick.position for pick in result.picks]


OURS = (
    Peer(ITL, "", "exact greedy", lambda p: _select_by_ours(p, InformationGain(p.noise_variance))),
    Peer(
        NOISELESS, "", "target_noise_variance=0", lambda p: _select_by_ours(p, InformationGain(p.noise_variance, 0.0))
    ),
    Peer(VTL, "", "exact greedy", lambda p: _select_by_ours(p, VarianceReduction(p.noise_variance))),
)


def greedy(problem: Problem) -> list[int]:
    """Pick by plain greedy ITL in float32."""
    return one_pass_per_pick(problem.pool_tensor, problem.exact_targets, problem.n, problem.noise_variance)


def _random(problem: Problem) -> list[int]:
    return np.random.default_rng(0).choice(len(problem.pool), problem.n, replace=False).tolist()


PLAIN = (
    Peer("torch, one pass a pick", "", "greedy ITL in float32", greedy),
    Peer(RANDOM, "", "uniformly, for scale", _random),
)


def search_by_faiss(problem: Problem, count: int) -> np.ndarray:
    """Return the nearest rows of every target by an exact search without an index, M x count."""
    import faiss

    faiss.omp_set_num_threads(problem.num_threads)
    return faiss.knn(problem.targets, problem.pool, count, metric=faiss.METRIC_INNER_PRODUCT)[1]


def flat_index(problem: Problem) -> Callable[[], np.ndarray]:
    """Return a search for the nearest row of every target by an exact index that is there already: M x 1."""
    import faiss

    faiss.omp_set_num_threads(problem.num_threads)
    index = faiss.IndexFlatIP(problem.pool.shape[1])
    index.add(problem.pool)  # type: ignore[call-arg]
    return lambda: index.search(problem.targets, 1)[1]  # type: ignore[call-arg]


def _select_by_faiss(problem: Problem) -> list[int]:
    """Pick in turn; the n nearest of every target suffice."""
    nearest = search_by_faiss(problem, problem.n)
    in_turn = dict.fromkeys(nearest.T.reshape(-1).tolist())
    return list(in_turn)[: problem.n]


FAISS = (Peer("faiss nearest", "faiss-cpu", "each target's nearest in turn", _select_by_faiss, ("faiss",)),)


PEERS: dict[str, Peer] = {peer.name: peer for peer in (*OURS, *PLAIN, *ACTIVEFT, *SUBMODLIB, *APRICOT, *FAISS)}
