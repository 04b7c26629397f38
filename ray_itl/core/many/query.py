"""One of many queries: its targets, and exact greedy picks among the rows that the driver has fetched for it.

In the space of functions, where a step over K rows of D features costs one product of all of them with one row. With
k(x, y) = x'Sy and S the covariance given the picks so far,

    k(x, y) <- k(x, y) - p(x) p(y),    p(x) = k(x, z) / sqrt(k(z, z) + s2)    for a pick z.

Of a query with targets A, ITL needs k(x, x) and k_A(x, x), the same given the targets too; VTL k(x, x) and k(x, A).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState, tie_width
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.decision import gain_scale
from ray_itl.core.linalg import compress_rows
from ray_itl.core.messages import Block
from ray_itl.core.posterior import Posterior, Targets

ROUNDING = 256 * 2.0**-52
"""Scores are off by this at most, relative to |x|^2 and their own size at |x| = 1 (as in `decision`)."""


def shares_passes(acquisition: Acquisition) -> bool:
    """Whether queries of a rule can be served together: ITL with noise on the targets, and VTL, of one task each."""
    if type(acquisition) is InformationGain:
        return acquisition.task_weights == (1.0,) and acquisition.target_noise_variance != 0
    return type(acquisition) is VarianceReduction and acquisition.task_weights == (1.0,)


@dataclass(frozen=True)
class Query:
    """A query before its first pick."""

    acquisition: InformationGain | VarianceReduction
    posterior: Posterior
    """Given what is known, the same for all queries."""
    targets: Targets
    mean_squared_norm: float
    """Of the pool."""

    @cached_property
    def rows(self) -> np.ndarray:
        """The targets, each times the root of its weight: at most D rows of the same second moment, m x D."""
        return compress_rows(self.targets.weighted).numpy()

    @cached_property
    def reached(self) -> np.ndarray:
        """S A', D x m."""
        return np.ascontiguousarray(self.posterior.covariance_with(torch.from_numpy(self.rows)).numpy().T)

    @cached_property
    def between(self) -> np.ndarray:
        """A S A', m x m."""
        return self.rows @ self.reached

    @property
    def noise(self) -> float:
        """s2."""
        return self.acquisition.noise_variance

    @property
    def target_noise(self) -> float:
        """s2A, of ITL."""
        assert isinstance(self.acquisition, InformationGain)
        own = self.acquisition.target_noise_variance
        return self.noise if own is None else own

    @cached_property
    def told(self) -> np.ndarray:
        """E, D x m: ITL has k_A(x, x) = k(x, x) - |x'E|^2, VTL the gain |x'E|^2 / (k(x, x) + s2)."""
        if isinstance(self.acquisition, VarianceReduction):
            return self.reached
        factor = np.linalg.cholesky(self.between + self.target_noise * np.eye(len(self.between)))
        return np.ascontiguousarray(np.linalg.solve(factor, self.reached.T).T)

    @cached_property
    def magnitudes(self) -> tuple[float, float]:
        """Bounds on the two scores at |x| = 1."""
        if isinstance(self.acquisition, InformationGain):
            return 2.0, 2.0
        return 2.0, float(np.square(self.told).sum()) + 1e-300

    @cached_property
    def state(self) -> AcquisitionState:
        """The state of the rule, by which rows too near to call are scored."""
        return self.acquisition.start(self.posterior, self.targets)

    @cached_property
    def gain_scale(self) -> float:
        """See `decision.gain_scale`."""
        return gain_scale(self.acquisition, self.state, self.mean_squared_norm)

    def floor(self, gain: float) -> float:
        """Return the gain from which a row ties with a gain."""
        return gain - float(tie_width(torch.tensor(gain, dtype=torch.float64), self.gain_scale))

    def gains(self, variance: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return gains from the two scores: k(x, x), and k_A(x, x) of ITL or |k(x, A)|^2 of VTL."""
        if isinstance(self.acquisition, InformationGain):
            return 0.5 * np.log1p((variance - other) / (other + self.noise))
        return other / (variance + self.noise)

    def errors(self, variance: np.ndarray, other: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Return by how much gains may be off where the scores are by rounding; `norms` are the rows' |x|^2."""
        first, second = (ROUNDING * norms * magnitude for magnitude in self.magnitudes)
        total = variance + self.noise
        if isinstance(self.acquisition, InformationGain):
            return 0.5 * (first / total + second / (other + self.noise))
        return (second + other / total * first) / total


@dataclass(frozen=True)
class Rows:
    """K rows that the driver has fetched for a query."""

    features: np.ndarray
    """K x D float64."""
    norms: np.ndarray
    """|x|^2, K."""
    positions: np.ndarray
    ids: np.ndarray

    def and_more(self, other: Rows) -> Rows:
        """Return these rows and those of the others that are not among them."""
        new = ~np.isin(other.positions, self.positions)
        return Rows(
            *(np.concatenate([mine, theirs[new]]) for mine, theirs in zip(_parts(self), _parts(other), strict=True))
        )


def _parts(rows: Rows) -> tuple[np.ndarray, ...]:
    return rows.features, rows.norms, rows.positions, rows.ids


@dataclass(frozen=True)
class Path:
    """n picks of a query, and how the scores of any row fall along them."""

    query: Query
    positions: np.ndarray
    """Of the picks, n."""
    ids: np.ndarray
    gains: np.ndarray
    """n float64."""
    columns: Tensor
    """What each pick subtracts, D x 2 x n float64 (see `Acquisition.products_`)."""
    at_targets: np.ndarray
    """W'A', n x m: picking subtracts x'w times this from k(x, A)."""

    def agrees_with(self, other: Path) -> int:
        """Return how many picks two paths have in common before the first that differs, or the shorter one ends."""
        size = min(len(self.positions), len(other.positions))
        same = self.positions[:size] == other.positions[:size]
        return size if same.all() else int(same.argmin())

    def head(self, size: int) -> Path:
        """Return the first picks alone."""
        return Path(
            self.query,
            self.positions[:size],
            self.ids[:size],
            self.gains[:size],
            self.columns[:, :, :size],
            self.at_targets[:size],
        )

    def block(self, verified: int) -> Block:
        """Return the picks as a block to test rows against, of which the first few are decided already."""
        values = torch.from_numpy(self.gains.copy())
        values[:verified] = float("inf")
        none = np.empty(0, dtype=np.int64)
        return Block(0, 0, self.columns, values, none, 0, 0, self.query.state)


def pick_among(query: Query, rows: Rows, n: int, before: Path | None = None) -> Path:
    """Pick n of K >= n rows, exactly: the first in the total order of `decision` at each step. O(n K (D + n + m)).

    Args:
        query: The query.
        rows: The rows.
        n: Number of picks in all.
        before: The first of them, where they are known: these take one product with all rows.
    """
    search = _Search(query, rows, n)
    if before is not None and len(before.gains):
        search.go_to(before)
    while search.num_picked < n:
        search.step()
    return search.path()


class _Search:
    """Greedy steps among fetched rows."""

    def __init__(self, query: Query, rows: Rows, n: int) -> None:
        self._query, self._rows = query, rows
        features = rows.features
        self._variance = query.posterior.variance(torch.from_numpy(features)).numpy().copy()
        self._told = features @ query.told
        """x'E; of VTL k(x, A), which falls."""
        self._is_itl = isinstance(query.acquisition, InformationGain)
        self._given = self._variance - np.square(self._told).sum(axis=1) if self._is_itl else None
        self._products = np.empty((n, len(features)))
        self._given_products = np.empty((n if self._is_itl else 0, len(features)))
        self._places: list[int] = []
        self._gains: list[float] = []
        self._open = np.ones(len(features), dtype=bool)
        self._state: AcquisitionState | None = None
        self._conditioned = 0
        dim = features.shape[1]
        self._columns = np.empty((n, 2, dim))
        """w, and of ITL w_A, the same of S_A; of VTL z."""
        self._reached = query.reached.copy()
        """S A', which falls."""

    @property
    def num_picked(self) -> int:
        """Number of picks so far."""
        return len(self._places)

    def go_to(self, before: Path) -> None:
        """Make the picks of a path, all of them among the rows, before any other."""
        made, features, columns = len(before.gains), self._rows.features, before.columns.numpy()
        self._places = [int(np.flatnonzero(self._rows.positions == position)[0]) for position in before.positions]
        self._gains = before.gains.tolist()
        self._open[self._places] = False
        self._columns[:made] = columns.transpose(2, 1, 0)
        if self._is_itl:
            self._columns[:made, 1] = self._columns[:made, 0] - self._columns[:made, 1]
        products = features @ columns[:, 0]
        self._products[:made] = products.T
        self._variance -= np.square(products).sum(axis=1)
        if self._given is None:
            self._told -= products @ before.at_targets
            self._reached -= columns[:, 0] @ before.at_targets
            return
        given = features @ self._columns[:made, 1].T
        self._given_products[:made] = given.T
        self._given -= np.square(given).sum(axis=1)

    def step(self) -> None:
        """Make one pick."""
        query, made = self._query, len(self._places)
        other = self._given if self._given is not None else np.square(self._told).sum(axis=1)
        gains = query.gains(self._variance, other)
        errors = query.errors(self._variance, other, self._rows.norms)
        certain = float((gains - errors)[self._open].max())
        near = np.flatnonzero((gains + errors >= query.floor(certain)) & self._open)
        place, gain = (int(near[0]), float(gains[near[0]])) if len(near) == 1 else self._first(near)
        self._places.append(place)
        self._gains.append(gain)
        self._open[place] = False
        row = self._rows.features[place]
        reach = query.posterior.covariance_with(torch.from_numpy(row)).numpy()
        among = self._rows.features @ reach
        own, root = self._products[:made, place], (self._variance[place] + query.noise) ** 0.5
        product = (among - own @ self._products[:made]) / root
        column = (reach - own @ self._columns[:made, 0]) / root
        self._products[made], self._columns[made, 0] = product, column
        self._variance -= np.square(product)
        if self._given is None:
            self._columns[made, 1] = self._fall_of_vtl(place, product, column, root)
            return
        told, own, root = (
            self._told[place],
            self._given_products[:made, place],
            (self._given[place] + query.noise) ** 0.5,
        )
        product = (among - self._told @ told - own @ self._given_products[:made]) / root
        self._given_products[made] = product
        self._columns[made, 1] = (reach - query.told @ told - own @ self._columns[:made, 1]) / root
        self._given -= np.square(product)

    def _fall_of_vtl(self, place: int, product: np.ndarray, column: np.ndarray, root: float) -> np.ndarray:
        """Take a pick from k(x, A), and return z = S M w - (w'Mw / 2) w, with which |k(x, A)|^2 falls by 2 x'w x'z."""
        at_targets = self._told[place] / root
        second = self._reached @ at_targets - 0.5 * float(at_targets @ at_targets) * column
        self._reached -= np.outer(column, at_targets)
        self._told -= np.outer(product, at_targets)
        return second

    def path(self) -> Path:
        """Return all that was picked."""
        places, columns = np.array(self._places, dtype=np.int64), self._columns.copy()
        if self._is_itl:
            columns[:, 1] = columns[:, 0] - columns[:, 1]
        return Path(
            self._query,
            self._rows.positions[places],
            self._rows.ids[places],
            np.array(self._gains),
            torch.from_numpy(np.ascontiguousarray(columns.transpose(2, 1, 0))),
            self._columns[:, 0] @ self._query.rows.T,
        )

    def _first(self, near: np.ndarray) -> tuple[int, float]:
        """Return the first of some rows that rounding cannot tell apart, and its gain."""
        query = self._query
        if self._state is None:
            self._state = query.state
        for place in self._places[self._conditioned :]:
            self._state = self._state.condition(torch.from_numpy(self._rows.features[place]))
        self._conditioned = len(self._places)
        exact = query.acquisition.gain(self._state.scores(torch.from_numpy(self._rows.features[near]))).numpy()
        tied = near[exact >= query.floor(float(exact.max()))]
        place = int(tied[np.argsort(self._rows.ids[tied], kind="stable")[0]])
        return place, float(exact[near == place][0])
