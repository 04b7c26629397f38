"""What a set of picks is worth, whoever made it: by the dense float64 definitions, over picks and targets alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ray_itl.core.posterior import Targets
from ray_itl.core.reference import condition_kernel, dense_kernel, joint_information


@dataclass(frozen=True)
class Worth:
    """What picks X say about targets A.

    Attributes:
        nats: I(f_A; y_X), what ITL wants large.
        variance: sum over the targets of their posterior variance, what VTL wants small.
        prior_variance: the same before any pick.
    """

    nats: float
    variance: float
    prior_variance: float

    @property
    def variance_left(self) -> float:
        """The share of the prior variance that is left."""
        return self.variance / self.prior_variance


def worth(picks: Tensor, targets: Tensor, noise_variance: float) -> Worth:
    """Return what n picked rows (n x D, the order does not matter) are worth to M targets (M x D).

    A row that is there twice counts as two observations. O((n + M)^2 D + n (n + M)^2).
    """
    num_picks = len(picks)
    kernel = dense_kernel(picks.double(), Targets.uniform(targets.double()), None, noise_variance)
    nats = joint_information(kernel, range(num_picks, len(kernel)), range(num_picks), noise_variance)
    prior = float(kernel.diagonal()[num_picks:].sum())
    for index in range(num_picks):
        kernel = condition_kernel(kernel, index, noise_variance)
    return Worth(nats, float(kernel.diagonal()[num_picks:].sum()), prior)
