"""submodlib's LogDetMI, whose value is twice I(y_A; y_X): greedy ITL with a dense kernel, in C++, by one thread.

The function is not submodular, so its lazy greedy is a heuristic; it is the faster one.
"""

from __future__ import annotations

from ray_itl.benchmark.peers.peer import Peer, Problem

_MODULES = ("submodlib",)
_PACKAGE = "submodlib-py"


def _select(problem: Problem, optimizer: str) -> list[int]:
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
    Peer("submodlib LogDetMI", _PACKAGE, "NaiveGreedy", lambda p: _select(p, "NaiveGreedy"), _MODULES),
    Peer("submodlib LogDetMI, lazy", _PACKAGE, "LazyGreedy", lambda p: _select(p, "LazyGreedy"), _MODULES),
)
