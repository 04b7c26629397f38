"""The feature map of some options."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ray_itl.core.features import FeatureMap, Identity, PriorCovariance, RandomFourier, UnitNorm
from ray_itl.curation.lengthscale import chosen_lengthscale
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.base import PoolSource


def build_feature_map(options: CurationSettings, source: PoolSource, tell: Callable[[str], object]) -> FeatureMap:
    """Return the feature map of the options; reads the prior covariance, if any.

    Args:
        options: All of them.
        source: The pool, from which `chosen_lengthscale` reads where the options leave that open.
        tell: Told what it chose.
    """
    settings = options.pool
    if settings.prior_covariance is not None:
        if settings.features != "as_is":
            raise ConfigError(
                f"pool.prior_covariance goes with pool.features=as_is, not {settings.features}: it is the prior of "
                "weights on the embeddings as they are"
            )
        try:
            covariance = np.load(settings.prior_covariance, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"pool.prior_covariance={settings.prior_covariance}: {error}; give a .npy file") from error
        return PriorCovariance.from_covariance(torch.from_numpy(np.asarray(covariance, dtype=np.float64)))
    if settings.features == "unit_norm":
        return UnitNorm()
    if settings.features == "random_fourier":
        chosen = chosen_lengthscale(source, tell) if settings.lengthscale == "auto" else settings.lengthscale
        return RandomFourier(settings.fourier_features, chosen, options.selection.seed)
    return Identity()
