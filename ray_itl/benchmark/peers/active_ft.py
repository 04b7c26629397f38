"""activeft: VTL as its loader does it, in one minibatch, and after a faiss search.

Not here: its ITL, whose gains leave the noise out of the ratio that its documentation gives; and its SIFT-Fast
(LazyVTL), whose queue starts from the mean of the targets, which bounds the gains for a single target only. Its loaders
may pick a row more than once, and where minibatches need a third round (N > 1,000^2 / n) activeft 0.1.1 ends with an
IndexError, as it looks up rows of the pool by number in what the second round has left.
"""

from __future__ import annotations

from typing import Any

from ray_itl.benchmark.peers.peer import Peer, Problem

_MODULES = ("activeft", "activeft.sift")
_PACKAGE = "activeft"
_CANDIDATES = 1000
"""How many rows faiss hands to VTL: the number in activeft's documentation."""


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


def _retriever(problem: Problem) -> list[int]:
    """Pick among the rows nearest to the targets' mean, as activeft advises for large data."""
    import faiss
    from activeft.sift import Retriever

    index = faiss.IndexFlatIP(problem.pool.shape[1])
    index.add(problem.pool)  # type: ignore[call-arg]
    count = min(_CANDIDATES, len(problem.pool))
    retriever = Retriever(index, _vtl(problem, count))
    _, picks, _, _ = retriever.search(problem.targets, N=problem.n, K=count, threads=problem.num_threads)
    return picks.tolist()


def _vtl(problem: Problem, mini_batch_size: int) -> Any:
    from activeft.acquisition_functions.vtl import VTL

    noise = problem.noise_variance**0.5
    return VTL(target=problem.target_tensor, noise_std=noise, mini_batch_size=max(mini_batch_size, problem.n + 1))


ACTIVEFT = (
    Peer("activeft VTL", _PACKAGE, "its default: minibatches of 1,000", lambda p: _loader(p, 1000), _MODULES),
    Peer("activeft VTL, flat", _PACKAGE, "one minibatch", lambda p: _loader(p, len(p.pool)), _MODULES),
    Peer("activeft Retriever", _PACKAGE, "VTL on the 1,000 nearest by faiss", _retriever, _MODULES),
)
