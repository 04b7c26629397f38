"""Rules as a user would define them, in a module of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, Linear, Scores
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.reference import DENSE_GAINS


@dataclass(frozen=True)
class Renamed(InformationGain):
    """ITL under another name."""

    name: ClassVar[str] = "renamed"
    dense_gains = staticmethod(DENSE_GAINS["itl"])


@dataclass(frozen=True)
class Scaled(InformationGain):
    """ITL in other units: the same picks. Has no dense definition, and options do not know its factors."""

    name: ClassVar[str] = "scaled"
    takes_tasks: ClassVar[bool] = False
    factors: Tensor = field(default_factory=lambda: torch.tensor([2.0], dtype=torch.float64))

    def gain(self, scores: Scores) -> Tensor:
        return float(self.factors[0]) * super().gain(scores)

    def gain_error(self, scores: Scores, errors: Scores) -> Tensor:
        return float(self.factors[0]) * super().gain_error(scores, errors)

    def linear(self, gains: Tensor) -> Linear | None:
        return super().linear(gains / float(self.factors[0]))


@dataclass(frozen=True)
class Demanding(InformationGain):
    """Has a field that no option fills and that has no default."""

    factor: float = field(kw_only=True)


class Bits(InformationGain):
    """Of a unit that no report knows."""

    unit: ClassVar[Any] = "bits"


def no_rule(noise_variance: float) -> Acquisition:
    return InformationGain(noise_variance)
