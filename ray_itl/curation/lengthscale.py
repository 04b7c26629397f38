"""The lengthscale of the RBF kernel where nobody sets it: from the distances between rows of the pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from ray_itl.core.features import RandomFourier
from ray_itl.core.ranking import hash_order
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import ConfigError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.lookup import id_batches

SAMPLE_ROWS = 1000
_NEAREST = 0.05
_KERNEL = 0.3
"""Ten times the error of a product of 1,024 random Fourier features: what is nearer stands out from it."""
_DIGITS = 3


def chosen_lengthscale(source: PoolSource, tell: Callable[[str], object]) -> float:
    """Return the lengthscale l at which exp(-d^2 / (2 l^2)) = 0.3, where one pair of rows in twenty is nearer than d.

    Which rows are compared, a thousand at most, a hash of their ids decides: no order of rows, and no cut into files or
    shards. Of equal rows one is compared, since copies say nothing about scale. l is rounded to three digits, so as not
    to depend on how a processor adds up. Reads the id column, and the rows that are compared.

    Args:
        source: The pool.
        tell: Told what was chosen, in a line.

    Raises:
        ConfigError: no two of the rows differ.
        InputError: files that cannot be read.
    """
    distances = _distances(source)
    if not len(distances):
        raise ConfigError(
            "pool.lengthscale=auto cannot be used: no two of the rows that were compared differ; give a number"
        )
    distance = float(np.quantile(distances, _NEAREST))
    chosen = float(f"{distance / math.sqrt(-2 * math.log(_KERNEL)):.{_DIGITS}g}")
    tell(
        f"lengthscale {chosen:g}: one pair of the pool's rows in twenty is nearer than {distance:.3g}, where the "
        f"kernel is {_KERNEL:g}"
    )
    return chosen


def lengthscale_of(problem: Problem) -> dict[str, float]:
    """Return "lengthscale" -> the number by which a problem was opened; empty where its kernel has none."""
    rbf = problem.feature_map
    return {"lengthscale": rbf.lengthscale} if isinstance(rbf, RandomFourier) else {}


def with_begun_lengthscale(
    settings: CurationSettings, identity: Mapping[str, str], tell: Callable[[str], object]
) -> CurationSettings:
    """Return the options with the lengthscale of the run or state directory of an identity, where it is auto."""
    pool = settings.pool.as_begun(identity)
    if pool is not settings.pool:
        tell(f"lengthscale {pool.lengthscale:g}: what was begun with it goes on with it")
    return replace(settings, pool=pool)


def with_lengthscale(settings: CurationSettings, problem: Problem) -> CurationSettings:
    """Return the options with the lengthscale as the number by which a problem was opened."""
    found = lengthscale_of(problem)
    return replace(settings, pool=replace(settings.pool, **found)) if found else settings


def _distances(source: PoolSource) -> np.ndarray:
    """Return the distances between the distinct rows that are compared."""
    parts = [rows for _, rows in source.batches_at(_sample(source), BadRows())]
    rows = np.concatenate([np.empty((0, source.dim)), *parts]).astype(np.float64)
    rows = np.unique(rows[np.isfinite(rows).all(axis=1)], axis=0)  # bad rows are told of when all are read
    # Scaled by the largest entry, so that squares neither overflow nor vanish.
    largest = float(np.abs(rows).max(initial=0.0))
    compared = torch.from_numpy(rows / (largest or 1.0))
    found = largest * torch.nn.functional.pdist(compared).numpy()
    return found[found > 0]


def _sample(source: PoolSource) -> np.ndarray:
    """Return the ascending positions of the rows whose ids have the smallest hashes."""
    hashes, positions, first = np.empty(0), np.empty(0, dtype=np.int64), 0
    for ids in id_batches(source, BadRows()):
        joined = np.concatenate([hashes, hash_order(ids, seed=0)])
        places = np.concatenate([positions, np.arange(first, first + len(ids))])
        kept = np.argsort(joined, kind="stable")[:SAMPLE_ROWS]
        hashes, positions, first = joined[kept], places[kept], first + len(ids)
    return np.sort(positions)
