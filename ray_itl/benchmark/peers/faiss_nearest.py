"""faiss: for each target in turn its nearest row that was not taken yet, by an exact search.

Without an index (faiss.knn), which would copy the pool.
"""

from __future__ import annotations

from ray_itl.benchmark.peers.peer import Peer, Problem


def _select(problem: Problem) -> list[int]:
    """Pick in turn; the n nearest of every target suffice."""
    import faiss

    faiss.omp_set_num_threads(problem.num_threads)
    _, nearest = faiss.knn(problem.targets, problem.pool, problem.n, metric=faiss.METRIC_INNER_PRODUCT)
    in_turn = dict.fromkeys(nearest.T.reshape(-1).tolist())
    return list(in_turn)[: problem.n]


FAISS = (Peer("faiss nearest", "faiss-cpu", "each target's nearest in turn", _select, ("faiss",)),)
