"""Picks replayed in kernel space by the dense definitions, sharing nothing with the engine that made them.

Of the rows that compete for a pick it says which should have won by the total order of `core.decision`, so far as
rounding lets one tell.

The posterior kernel after k picks is K - K_.O (K_OO + s2 I)^-1 K_O., where O are the known rows and the first k picks.
One Cholesky factor of K_OO + s2 I serves every step: its leading blocks are the factors of the steps before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions import load_rule
from ray_itl.core.features import UnitNorm
from ray_itl.core.posterior import Targets
from ray_itl.core.reference import DENSE_GAINS, DenseGains, dense_kernel
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import BASELINE_RULES, AcquisitionSettings
from ray_itl.errors import ConfigError


@dataclass(frozen=True)
class TieTest:
    """R rows that compete by gain over price; all that tie with the best of them yield to the smallest id."""

    gains: np.ndarray
    """R float64."""
    prices: np.ndarray
    """R float64, > 0."""
    ids: np.ndarray
    is_open: np.ndarray
    """R bool: which may be picked."""
    tie_share: float
    """Rows tie whose gain is below that of the best, at their price, by this share of it, ..."""
    tie_rest: float
    """... and this."""
    rounding: float
    """By how much the difference of two gains may be off."""

    @property
    def values(self) -> np.ndarray:
        """What rows compete by, -inf for those that may not be picked: R."""
        return np.where(self.is_open, self.gains / self.prices, -np.inf)

    def better_than(self, pick: int) -> int | None:
        """Return the row that should have been picked instead; None where rounding may explain this pick."""
        if pick not in self.possible_winners():
            return int(self.values.argmax())
        half = self.rounding / 2
        surely_tied = self.is_open & (self.gains - half >= self._floor(self._best(half)))
        before = np.flatnonzero(surely_tied & (self.ids < self.ids[pick]))
        return int(before[np.argsort(self.ids[before], kind="stable")[0]]) if len(before) else None

    def possible_winners(self) -> np.ndarray:
        """Return the open rows that are the best or tie with it, if rounding is in their favour: ascending indices."""
        if not self.is_open.any():
            return np.empty(0, dtype=np.int64)
        half = self.rounding / 2
        return np.flatnonzero(self.is_open & (self.gains + half >= self._floor(self._best(-half))))

    def _best(self, error: float) -> float:
        """Return the largest value if every gain is larger by this much."""
        return float(np.where(self.is_open, (self.gains + error) / self.prices, -np.inf).max())

    def _floor(self, value: float) -> np.ndarray:
        """Return the gains from which rows tie with a value, each at its price: R."""
        needed = value * self.prices
        return needed - self.tie_share * np.abs(needed) - self.tie_rest


_GAIN_TOLERANCE = 1e-6
_TIE_SHARE, _TIE_REST = 1e-9, 1e-12
_CHUNK_ROWS = 1024
_MAX_DENSE_ROWS = 2000
_COSINE_GRID = 2.0**-32


def dense_definition(options: AcquisitionSettings) -> DenseGains:
    """Return the dense definition of a rule, for a baseline that of ITL, by which its picks are valued.

    Raises:
        ConfigError: a rule of the user's own that has none.
    """
    if options.name in BASELINE_RULES:
        return DENSE_GAINS["itl"]
    definition = DENSE_GAINS.get(options.name) or load_rule(options.name).dense_gains
    if definition is None:
        raise ConfigError(
            f"acquisition.name={options.name} has no dense definition to check picks by: give the class a static "
            "method dense_gains (see ray_itl.core.reference.DenseGains)"
        )
    return definition


class WrongStep(NamedTuple):
    """A step at which another row was better. Values are gains (per cost), or cosines for the baselines."""

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


@dataclass(frozen=True)
class Replay:
    """The picks of a run among R distinct pool rows."""

    problem: Problem
    options: AcquisitionSettings
    rows: Tensor
    """Features as the shards held them, R x D float64."""
    ids: np.ndarray
    """R row ids."""
    objectives: Sequence[tuple[Targets, float]]
    """What gains are about, and how much each counts: the targets of every task, the rows to avoid (below 0)."""
    picks: np.ndarray
    """Indices into `rows` of the n picks, in order."""
    prices: np.ndarray
    """What gains are divided by before rows are compared: R."""
    mean_squared_norm: float | None
    """Of the pool, as the run has recorded it; None of older versions, whose ties do not depend on it."""
    open_rows: Mapping[int, np.ndarray]
    """Number of picks -> which rows may come next (R bool), for the steps that are asked for and for n."""

    def check(self, steps: Sequence[int], recorded: np.ndarray) -> tuple[list[WrongStep], list[WrongGain]]:
        """Return the steps (of those asked for, ascending) whose pick is not the best, and the gains that are off.

        A pick that might not come at its step is compared with nothing.

        Args:
            steps: Numbers of picks to check, from 0.
            recorded: The n recorded gains.
        """
        gains = self._gains(steps).numpy()
        wrong, wrong_gains = [], []
        for step, row in zip(steps, gains, strict=True):
            pick = int(self.picks[step])
            dense = float(row[pick])
            if not abs(recorded[step] - dense) <= self.tolerance(dense, steps[-1]):
                wrong_gains.append(WrongGain(step + 1, float(recorded[step]), dense))
            tie_test = self._contest(step, row, steps[-1])
            better = tie_test.better_than(pick) if tie_test.is_open[pick] else None
            if better is not None:
                names, values = self.ids[[pick, better]].tolist(), tie_test.values[[pick, better]].tolist()
                wrong.append(WrongStep(step + 1, names[0], values[0], names[1], values[1]))
        return wrong, wrong_gains

    def after_all(self) -> TieTest:
        """Return how rows compete for one more pick after the n picks."""
        n = len(self.picks)
        return self._contest(n, self._gains([n])[0].numpy(), n)

    def tolerance(self, gain: float, last_step: int) -> float:
        """Return by how much a recorded gain may differ from the dense one after so many picks."""
        return _GAIN_TOLERANCE * abs(gain) + self._tie_rest + self._rounding(last_step)

    def target_variances(self) -> np.ndarray:
        """Return sum_a w_a k(a, a) before the first pick and after each: n + 1."""
        weighted = _at_most(self.problem.targets.weighted)
        observed = self._observed(len(self.picks))
        crossed = observed @ weighted.mT
        whitened = torch.linalg.solve_triangular(_factor(observed, self._noise), crossed, upper=False)
        falls = np.cumsum(np.concatenate([[0.0], whitened.square().sum(dim=1).numpy()]))
        return float(weighted.square().sum()) - falls[len(observed) - len(self.picks) :]

    def _contest(self, step: int, gains: np.ndarray, last_step: int) -> TieTest:
        """Return how rows compete at a step, by these gains (R), as exact as those at the last step computed."""
        is_open = self.open_rows[step]
        if self.problem.baseline is not None:
            return TieTest(self._cosines(step), self.prices, self.ids, is_open, 0.0, 0.0, 0.0)
        rounding = self._rounding(last_step)
        return TieTest(gains, self.prices, self.ids, is_open, _TIE_SHARE, self._tie_rest, rounding)

    def _gains(self, steps: Sequence[int]) -> Tensor:
        """Return the gain of every row at each of some steps, len(steps) x R: the weighted sum over objectives."""
        noise = self._noise
        observed = self._observed(steps[-1])
        num_known = len(observed) - steps[-1]
        factor = _factor(observed, noise)
        noiseless = self._definition is DENSE_GAINS["itl"] and self._target_noise == 0
        tasks = [(_dense_targets(targets, noiseless), weight) for targets, weight in self.objectives]
        about = [torch.linalg.solve_triangular(factor, observed @ t.rows.mT, upper=False) for t, _ in tasks]
        gains = torch.zeros(len(steps), len(self.rows), dtype=torch.float64)
        for first in range(0, len(self.rows), _CHUNK_ROWS):
            chunk = self.rows[first : first + _CHUNK_ROWS]
            own = torch.linalg.solve_triangular(factor, observed @ chunk.mT, upper=False)
            for (targets, weight), others in zip(tasks, about, strict=True):
                kernel, whitened = dense_kernel(chunk, targets, None, noise), torch.cat([own, others], dim=1)
                done = 0
                for place, step in enumerate(steps):
                    new = whitened[done : num_known + step]
                    kernel = kernel - new.mT @ new
                    done = num_known + step
                    gains[place, first : first + len(chunk)] += weight * self._gains_by(kernel, len(chunk), targets)
        return gains

    def _gains_by(self, kernel: Tensor, num_rows: int, targets: Targets) -> Tensor:
        """Return the gains of rows about one task."""
        return self._definition(kernel, num_rows, targets.weights, self._noise, self._target_noise)

    @cached_property
    def _definition(self) -> DenseGains:
        return dense_definition(self.options)

    @property
    def _noise(self) -> float:
        """s2."""
        return self.problem.acquisition.noise_variance

    @property
    def _target_noise(self) -> float:
        target_noise = self.options.target_noise_variance
        return self._noise if target_noise is None else target_noise

    def _observed(self, num_picks: int) -> Tensor:
        """Return what is observed after some picks: known rows, then these."""
        known = self.rows[:0] if self.problem.known is None else _at_most(self.problem.known)
        return torch.cat([known, self.rows[self.picks[:num_picks]]])

    def _cosines(self, step: int) -> np.ndarray:
        """Return every row's cosine similarity to the target whose turn it is (nearest), or its mean over targets.

        Of several tasks it is the largest of their means, each times the task's weight beside the largest weight.

        Rounded to a grid of 2^-32, on which the baselines' definition has rows tie.
        """
        targets, tasks = self.problem.targets, self.problem.tasks
        rows = UnitNorm()(self.rows)
        if self.problem.baseline == "nearest":
            units = UnitNorm()(targets.rows[targets.weights > 0])
            cosines = (rows @ units[(self.problem.num_before + step) % len(units)]).numpy()
        else:
            samples = [(task.of(targets), task.weight) for task in tasks] or [(targets, 1.0)]
            samples = [(sample, weight) for sample, weight in samples if (sample.weights > 0).any()]
            largest = max(weight for _, weight in samples)
            means = [_mean_cosines(rows, sample) * weight / largest for sample, weight in samples]
            cosines = np.max(means, axis=0)
        return np.round(cosines / _COSINE_GRID) * _COSINE_GRID

    @cached_property
    def _gain_scale(self) -> float:
        """The size of gain that the rule gives, in its unit: a part of its contract."""
        return self.problem.start().gain_scale

    @property
    def _tie_rest(self) -> float:
        """What is nothing beside any gain: 1e-12 of that size times m / (m + s2), m being the mean squared norm."""
        norm = self.mean_squared_norm
        share = 1.0 if not norm else norm / (norm + self._noise)
        return _TIE_REST * self._gain_scale * share

    def _rounding(self, last_step: int) -> float:
        """Return by how much rounding may put a dense gain off: kernels are as exact as their largest entry."""
        known = 0 if self.problem.known is None else len(self.problem.known)
        terms = known + last_step + sum(len(sample.rows) for sample, _ in self.objectives)
        weight = sum(abs(weight) for _, weight in self.objectives)
        largest = float(self.rows.square().sum(dim=1).max())
        return 16 * 2.0**-52 * terms**0.5 * largest / self._noise * self._gain_scale * weight


def _mean_cosines(rows: Tensor, targets: Targets) -> np.ndarray:
    """Return the weighted mean cosine of unit rows to targets."""
    weights = targets.weights
    return (rows @ UnitNorm()(targets.rows).mT @ (weights / weights.sum())).numpy()


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
