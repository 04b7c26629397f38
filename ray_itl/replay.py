"""Picks replayed in kernel space by the dense definitions, sharing nothing with the engine that made them.

The posterior kernel after k picks is K - K_.O (K_OO + s2 I)^-1 K_O., where O are the known rows and the first k picks.
One Cholesky factor of K_OO + s2 I serves every step: its leading blocks are the factors of the steps before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.features import UnitNorm
from ray_itl.core.posterior import Targets
from ray_itl.core.reference import DenseRule, dense_gains, dense_kernel
from ray_itl.errors import ConfigError
from ray_itl.problem import Problem
from ray_itl.settings import AcquisitionSettings

_GAIN_TOLERANCE = 1e-6
_CHUNK_ROWS = 1024
_MAX_DENSE_ROWS = 2000
_COSINE_GRID = 2.0**-32


class WrongStep(NamedTuple):
    """A step at which another row was better. Values are gains, or cosines for the baselines."""

    rank: int
    picked: int | str
    value: float
    better: int | str
    better_value: float


class WrongGain(NamedTuple):
    """A pick whose recorded gain is not the dense one."""

    rank: int
    recorded: float
    dense: float


class Left(NamedTuple):
    """The best row that was not picked, what it adds after all picks, and by how much that may be off."""

    row_id: int | str
    value: float
    tolerance: float


@dataclass(frozen=True)
class Replay:
    """The picks of a run among R distinct pool rows."""

    problem: Problem
    options: AcquisitionSettings
    rows: Tensor
    """Features as the shards held them, R x D float64."""
    ids: np.ndarray
    """R row ids."""
    picks: np.ndarray
    """Indices into `rows` of the n picks, in order."""

    def check(self, steps: Sequence[int], recorded: np.ndarray) -> tuple[list[WrongStep], list[WrongGain]]:
        """Return the steps (of those asked for, ascending) whose pick is not the best, and the gains that are off.

        Args:
            steps: Numbers of picks to check, from 0.
            recorded: The n recorded gains.
        """
        gains = self._gains(steps).numpy()
        scale, rounding = self._gain_scale(), self._rounding(steps[-1])
        wrong, wrong_gains = [], []
        for step, row in zip(steps, gains, strict=True):
            dense = float(row[self.picks[step]])
            tolerance = _GAIN_TOLERANCE * abs(dense) + 1e-12 * scale + rounding
            if not abs(recorded[step] - dense) <= tolerance:
                wrong_gains.append(WrongGain(step + 1, float(recorded[step]), dense))
            if self.problem.baseline is None:
                best = row[self._available(step)].max()
                fault = self._fault(step, row, 1e-9 * abs(best) + 1e-12 * scale, rounding)
            else:
                fault = self._fault(step, self._cosines(step), 0.0, 0.0)
            if fault is not None:
                wrong.append(fault)
        return wrong, wrong_gains

    def best_left(self) -> Left | None:
        """Return the best row after all picks; None where every row is picked."""
        n = len(self.picks)
        available = self._available(n)
        if not available.any():
            return None
        gains = np.where(available, self._gains([n])[0].numpy(), -np.inf)
        best = int(gains.argmax())
        tolerance = _GAIN_TOLERANCE * float(gains[best]) + 1e-12 * self._gain_scale() + self._rounding(n)
        return Left(self.ids[[best]].tolist()[0], float(gains[best]), tolerance)

    def _fault(self, step: int, values: np.ndarray, width: float, rounding: float) -> WrongStep | None:
        """Return what is wrong with a pick: the smallest id within `width` of the best value should have won."""
        values = np.where(self._available(step), values, -np.inf)
        best, pick = float(values.max()), int(self.picks[step])
        if values[pick] < best - width - rounding:
            better = int(values.argmax())
        else:
            surely_tied = np.flatnonzero(values >= best - (width - rounding)) if rounding <= width else []
            before = [int(i) for i in surely_tied if self.ids[i] < self.ids[pick]]
            if not before:
                return None
            better = before[int(np.argsort(self.ids[before], kind="stable")[0])]
        names = self.ids[[pick, better]].tolist()
        return WrongStep(step + 1, names[0], float(values[pick]), names[1], float(values[better]))

    def _available(self, step: int) -> np.ndarray:
        """Return which rows may be picked at a step."""
        available = np.ones(len(self.rows), dtype=bool)
        if not self.problem.selection.replacement:
            available[self.picks[:step]] = False
        return available

    def _gains(self, steps: Sequence[int]) -> Tensor:
        """Return the gain of every row at each of some steps, len(steps) x R."""
        noise = self.options.noise_variance
        target_noise = self.options.target_noise_variance
        target_noise = noise if target_noise is None else target_noise
        rule: DenseRule = "itl" if self.problem.baseline is not None else cast(DenseRule, self.options.name)
        targets = _dense_targets(self.problem.targets, noiseless=rule == "itl" and target_noise == 0)
        known = self.rows[:0] if self.problem.known is None else _at_most(self.problem.known)
        observed = torch.cat([known, self.rows[self.picks[: steps[-1]]]])
        factor = _factor(observed, noise)
        gains = torch.empty(len(steps), len(self.rows), dtype=torch.float64)
        for first in range(0, len(self.rows), _CHUNK_ROWS):
            chunk = self.rows[first : first + _CHUNK_ROWS]
            kernel = dense_kernel(chunk, targets, None, noise)
            crossed = observed @ torch.cat([chunk, targets.rows]).mT
            whitened = torch.linalg.solve_triangular(factor, crossed, upper=False)
            done = 0
            for place, step in enumerate(steps):
                new = whitened[done : len(known) + step]
                kernel = kernel - new.mT @ new
                done = len(known) + step
                here = dense_gains(rule, kernel, len(chunk), targets.weights, noise, target_noise)
                gains[place, first : first + len(chunk)] = here
        return gains

    def _cosines(self, step: int) -> np.ndarray:
        """Return every row's cosine similarity to the target whose turn it is (nearest), or its mean over targets.

        Rounded to a grid of 2^-32, on which the baselines' definition has rows tie.
        """
        targets = self.problem.targets
        present = targets.weights > 0
        units = UnitNorm()(targets.rows[present])
        if self.problem.baseline == "nearest":
            direction = units[step % len(units)]
        else:
            direction = targets.weights[present] / targets.weights[present].sum() @ units
        cosines = (UnitNorm()(self.rows) @ direction).numpy()
        return np.round(cosines / _COSINE_GRID) * _COSINE_GRID

    def _gain_scale(self) -> float:
        return (float(self.problem.targets.weighted.square().sum()) or 1.0) if self.options.name == "vtl" else 1.0

    def _rounding(self, last_step: int) -> float:
        """Return by how much rounding may put a dense gain off: kernels are as exact as their largest entry."""
        known = 0 if self.problem.known is None else len(self.problem.known)
        terms = known + last_step + len(self.problem.targets.rows)
        largest = float(self.rows.square().sum(dim=1).max())
        return 16 * 2.0**-52 * terms**0.5 * largest / self.options.noise_variance * self._gain_scale()


def _dense_targets(targets: Targets, noiseless: bool) -> Targets:
    """Return targets that the dense definitions can take: equivalent ones where there are too many, or no noise.

    Weights and number matter only through A' diag(w) A; without noise only the span of A does, of which an orthonormal
    basis is well-conditioned.
    """
    if noiseless:
        _, sizes, directions = torch.linalg.svd(_at_most(targets.rows[targets.weights > 0]), full_matrices=False)
        floor = max(targets.rows.shape) * 2.0**-52 * float(sizes.norm())
        return Targets.uniform(directions[sizes > floor])
    if len(targets.rows) > _MAX_DENSE_ROWS:
        return Targets.uniform(_at_most(targets.weighted))
    return targets


def _at_most(rows: Tensor) -> Tensor:
    """Return at most max(D, 2000) rows with the same second moment, which observe the same."""
    return torch.linalg.qr(rows, mode="r").R if len(rows) > max(_MAX_DENSE_ROWS, rows.shape[1]) else rows


def _factor(observed: Tensor, noise_variance: float) -> Tensor:
    gram = observed @ observed.mT
    gram.diagonal().add_(noise_variance)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed.item():
        raise ConfigError(
            f"acquisition.noise_variance={noise_variance:g} is too small beside the rows for the dense definition in "
            "float64: to have a selection that can be checked, make it again with a larger one"
        )
    return factor
