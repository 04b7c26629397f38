"""What rows that were never fetched for a query could have gained at each step, at most.

Rows that are not among the fetched have |x'E|^2 <= h^2 (|x|^2 + s2) before the first pick, E of `Query.told`. Later,
E_k = E H + R with any H, so |x'E_k| <= |H| h sqrt(|x|^2 + s2) + |R| |x|; and by Cauchy and Schwarz |x'E_k|^2 is at most
x'S_k x times the largest eigenvalue l of what E_k tells of the targets. The gain grows with |x'E_k|^2 / (x'S_k x + s2).
"""

from __future__ import annotations

import numpy as np

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.many.query import Path


def most_left_out(path: Path, height: float, largest_norm: float) -> np.ndarray:
    """Return for each pick of a path the most that a row of the pool which was not fetched could have gained then.

    Args:
        path: n picks.
        height: h.
        largest_norm: The largest |x|^2 of the pool.

    Returns:
        n float64, in the unit of gains. O(n D m^2).
    """
    query, columns = path.query, path.columns[:, 0].numpy()
    is_itl = isinstance(query.acquisition, InformationGain)
    reached, between = query.reached.copy(), query.between.copy()
    inverse = np.linalg.pinv(query.told)
    near = height * (largest_norm + query.noise) ** 0.5
    bounds = np.empty(len(path.gains))
    for step in range(len(bounds)):
        told, most = reached, between
        if is_itl:
            factor = np.linalg.cholesky(between + query.target_noise * np.eye(len(between)))
            told = np.linalg.solve(factor, reached.T).T
            most = np.linalg.solve(factor, np.linalg.solve(factor, between).T)
        share = inverse @ told
        rest = np.linalg.norm(told - query.told @ share, 2)
        square = (np.linalg.norm(share, 2) * near + rest * largest_norm**0.5) ** 2
        largest = max(float(np.linalg.eigvalsh((most + most.T) / 2)[-1]), 1e-300)
        variance = min(square / largest, largest_norm)
        bounds[step] = variance * largest / (variance + query.noise)
        taken = path.at_targets[step]
        reached -= np.outer(columns[:, step], taken)
        between -= np.outer(taken, taken)
    bounds *= 1 + 1e-9
    return -0.5 * np.log1p(-np.minimum(bounds, 1 - 1e-12)) if is_itl else bounds
