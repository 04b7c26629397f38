"""apricot: a feature-based function of the similarities to the targets, and facility location, which knows no target.

The features of a row are its inner products with the targets, negative ones set to 0; the function then is
sum_a sqrt(sum_x x.a), which wants every target served and the same one not again and again. The optimizers are the
faster ones of naive, lazy and two-stage, which pick the same. apricot compiles its loops anew in every call, for a
second or more.
"""

from __future__ import annotations

import numpy as np

from ray_itl.benchmark.peers.peer import Peer, Problem

_MODULES = ("apricot",)
_PACKAGE = "apricot-select"


def _feature_based(problem: Problem) -> list[int]:
    from apricot import FeatureBasedSelection

    similarities = np.maximum(problem.pool @ problem.targets.T, 0).astype(np.float64)
    return FeatureBasedSelection(problem.n, optimizer="lazy").fit(similarities).ranking.tolist()


def _facility_location(problem: Problem) -> list[int]:
    from apricot import FacilityLocationSelection

    selector = FacilityLocationSelection(problem.n, metric="cosine", optimizer="two-stage")
    return selector.fit(problem.pool).ranking.tolist()


APRICOT = (
    Peer("apricot feature-based", _PACKAGE, "similarities to the targets, sqrt", _feature_based, _MODULES),
    Peer("apricot facility location", _PACKAGE, "cosine; no target", _facility_location, _MODULES),
)
