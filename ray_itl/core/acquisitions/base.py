"""The contract of a sequential rule: a function of a few numbers per row that only ever shrink by products.

A rule has, for each pool row x, K scores s_i(x) and a gain g(s_1(x), .., s_K(x)). Picking y turns into a few D-vectors
("columns", one per track), and with p_t = x . column_t

    s_i <- s_i - d_t(i)(p),

where each d is a product of the p_t. So a whole block of picks changes every score by one matrix product. Where g is an
increasing function of a ratio of two scores, "x gains more than g*" is even linear in the scores, and verification
needs neither logarithm nor division (see `Acquisition.linear`).

With several tasks the objective is a weighted sum of theirs; a task of negative weight is one to avoid: its information
is subtracted. Each pick is then still the exact argmax of that sum. What greedy selection by it cannot promise is a
bound on the sum over a whole set: a difference of information gains is not monotone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from ray_itl.core.posterior import Posterior, Targets

TIE_SHARE, TIE_REST = 1e-9, 1e-12
"""The tie width: a share of the gain, and one of the gain scale."""
GainUnit = Literal["nats", "variance"]
Scores = tuple[Tensor, ...]
"""K tensors of one shape, float64: the scores of rows, without constants such as the noise variance.

Beside a noise far above the rows' squared norms, all that tells rows apart would be lost to rounding."""


class Quadratic(NamedTuple):
    """The function x -> scale |x|^2 + sign |x F|^2, by which a shard starts from its own rows."""

    scale: float
    sign: float
    factor: Tensor
    """F, D x r float64; r may be 0."""
    terms: float = 0.0
    """Where the driver takes the score for a difference of larger numbers: the size of these at |x| = 1."""

    @property
    def magnitude(self) -> float:
        """A bound on the function's terms at |x| = 1: what the driver's rounding errors are proportional to."""
        size = abs(self.scale)
        if self.factor.shape[1]:
            narrow = self.factor if self.factor.shape[1] <= self.factor.shape[0] else self.factor.mT
            size += float(torch.linalg.eigvalsh(narrow.mT @ narrow)[-1])
        return max(size, self.terms)


class StepProduct(NamedTuple):
    """What a pick lowers a score by: (sum_t left_t p_t)(sum_t right_t p_t), for the products p_t of the tracks."""

    left: tuple[float, ...]
    right: tuple[float, ...]

    @classmethod
    def of_tracks(cls, left: Mapping[int, float], right: Mapping[int, float], num_tracks: int) -> StepProduct:
        """Name the weights that are not 0, by track."""
        return cls(*(tuple(side.get(track, 0.0) for track in range(num_tracks)) for side in (left, right)))

    @property
    def square_of(self) -> int | None:
        """The track whose product's square it is."""
        tracks = [track for track, weight in enumerate(self.left) if weight]
        return tracks[0] if self.left == self.right and len(tracks) == 1 and self.left[tracks[0]] == 1 else None

    @property
    def mixes(self) -> bool:
        """Whether products of several tracks are added up."""
        return any(sum(weight != 0 for weight in side) > 1 for side in self)


class Linear(NamedTuple):
    """S conditions sum_i coefficients[i] s_i + constants > 0."""

    coefficients: Tensor
    """K x S float64."""
    constants: Tensor
    """S float64."""


class AcquisitionState(ABC):
    """Everything known after some picks; immutable.

    Costs are those of the rules here, with r the rank of what is known (D where that exceeds D / 2).
    """

    @abstractmethod
    def scores(self, rows: Tensor) -> Scores:
        """Return the exact scores of rows (N x D float64) given the picks so far. O(N D r)."""

    @abstractmethod
    def columns(self, row: Tensor) -> Tensor:
        """Return the D x num_tracks vectors by which every row's scores change if `row` (D) is picked. O(D r)."""

    @abstractmethod
    def condition(self, row: Tensor) -> AcquisitionState:
        """Return the state after picking `row` (D). O(D r)."""

    def step(self, row: Tensor) -> tuple[Tensor, AcquisitionState]:
        """Return `columns` of a row and the state after picking it; what both need, a rule may compute once."""
        return self.columns(row), self.condition(row)

    @abstractmethod
    def quadratics(self) -> tuple[Quadratic, ...]:
        """Return the K scores as functions of a row, for the shards. O(D r^2), once per run."""

    @property
    @abstractmethod
    def posterior(self) -> Posterior:
        """The weight posterior given the picks (not the targets)."""

    @property
    def gain_scale(self) -> float:
        """The size of gain beside which 1e-12 is nothing where rows are far above the noise: 1 nat, or all variance."""
        return 1.0

    @property
    def form_norms(self) -> tuple[float, ...]:
        """Bounds on the largest eigenvalues of `Acquisition.forms`, now and after any further picks. O(D r), once."""
        return ()


@dataclass(frozen=True)
class Acquisition(ABC):
    """A sequential acquisition rule. Instances are small, compare by value, and travel to every shard.

    `acquisition.name` of a run is a key of `RULES` or the "module:Class" of a subclass; in Python an instance will do.
    """

    noise_variance: float
    """s2: variance of the observation noise on a picked row, > 0."""

    name: ClassVar[str] = "unnamed"
    """Says in a run's files which rule it was."""
    unit: ClassVar[GainUnit] = "nats"
    """Of gains."""
    integer_noise: ClassVar[float] = 1e-3
    """Noise, beside the largest |x|^2, from which copies of 8 bits leave few rows in doubt (`pool.screening=auto`)."""
    takes_tasks: ClassVar[bool] = False
    """Whether `start` takes any number of tasks, weighted by a field `task_weights`: several targets, rows to avoid."""
    dense_gains: ClassVar[Callable[..., Tensor] | None] = None
    """A user's rule may define it, as a static method with the arguments of `reference.DenseGains`: `ray-itl verify`
    then checks runs by it. Rules of `RULES` have theirs in `reference.DENSE_GAINS`."""

    @classmethod
    def from_options(
        cls,
        noise_variance: float,
        target_noise_variance: float | None = None,
        task_weights: tuple[float, ...] = (1.0,),
    ) -> Self:
        """Return the rule that a run's options describe; here from those of them that are fields of the class.

        Args:
            noise_variance: s2 > 0.
            target_noise_variance: s2A >= 0 of an observation of a target; None: s2.
            task_weights: c, one for each task that `start` will be given.

        Raises:
            TypeError: the class has further fields without a default.
        """
        options: dict[str, Any] = {
            "noise_variance": noise_variance,
            "target_noise_variance": target_noise_variance,
            "task_weights": task_weights,
        }
        taken = {each.name for each in fields(cls) if each.init}
        return cls(**{name: value for name, value in options.items() if name in taken})

    @property
    @abstractmethod
    def score_tracks(self) -> tuple[int, ...]:
        """For each of the K scores, the track whose product lowers it: which of those that `products_` returns."""

    @property
    def num_scores(self) -> int:
        """K."""
        return len(self.score_tracks)

    @property
    def num_tracks(self) -> int:
        """Number of columns that a pick turns into."""
        return max(self.score_tracks) + 1

    @property
    def num_products(self) -> int:
        """P, of what `products_` returns."""
        return max(self.score_tracks) + 1

    @abstractmethod
    def start(self, posterior: Posterior, *tasks: Targets) -> AcquisitionState:
        """Return the state before the first pick.

        Args:
            posterior: Of the weights, given everything already known.
            tasks: The targets of each task; as many as there are weights, where the rule takes tasks.
        """

    @abstractmethod
    def gain(self, scores: Scores) -> Tensor:
        """Return the gain of every row, computed without cancellation: noise is added to no difference of scores.

        Args:
            scores: K tensors of one shape, float64 or the precision of the screen.

        Returns:
            Gains in `unit`, of the scores' shape.
        """

    @abstractmethod
    def gain_error(self, scores: Scores, errors: Scores) -> Tensor:
        """Return by how much every row's gain may be off when its scores are, to first order.

        Args:
            scores: As for `gain`.
            errors: By how much each score may be off, absolutely.
        """

    def bounded_gain(self, scores: Scores, errors: Scores) -> tuple[Tensor, Tensor]:
        """Return gains and by how much each may be off: infinitely where rounding exceeds what a score must be above.

        Beside a noise far below the rows' norms, rounding may bring a score below what no variance can be, and then the
        gain is no number. Such a row is not passed over but left to be scored exactly.

        Args:
            scores: As for `gain`.
            errors: As for `gain_error`.
        """
        gains, off = self.gain(scores), self.gain_error(scores, errors)
        unknown = ~(torch.isfinite(gains) & (off >= 0))
        return gains.masked_fill_(unknown, 0.0), off.masked_fill_(unknown, float("inf"))

    def products_(self, dots: Tensor) -> Tensor:
        """Turn dot products x . column (N x num_tracks x B) into decrements, which overwrite them: here p_t -> p_t^2.

        Returns:
            N x P x B, with what lowers score i at place `score_tracks[i]`.
        """
        return dots.square_()

    def linear(self, gains: Tensor) -> Linear | None:
        """Return the condition "the gain exceeds g" for S values g (S float64); None where it is not linear."""
        del gains
        return None

    @property
    def step_products(self) -> tuple[StepProduct, ...]:
        """What a step lowers each score by, as `products_` computes it; here a square."""
        return tuple(StepProduct.of_tracks({track: 1.0}, {track: 1.0}, self.num_tracks) for track in self.score_tracks)

    @property
    def forms(self) -> tuple[tuple[float, ...], ...]:
        """Weights (K each) of forms f = sum_i w_i (s_i - scale_i |x|^2) that are at least 0, whatever was picked.

        So is each sign_i (s_i - scale_i |x|^2).

        By these, and `reach`, rows are excluded from copies of fewer digits (see `screening`). A rule that names none
        is screened in float64. Where `linear` holds there are K, linearly independent.
        """
        return ()

    def reach(self, norms: Tensor, lower: Scores, upper: Scores) -> Tensor:
        """Return the most that rows may gain, for rules that have `forms`.

        Args:
            norms: |x|^2 of the rows, float64.
            lower: For each form what it is at least, of one shape with `norms`.
            upper: What it is at most.
        """
        raise NotImplementedError(f"{self.name} has no forms")

    @property
    def is_certified(self) -> bool:
        """Whether the rule's forms are its own: those of a base class say nothing of a gain that is overridden."""
        kinds = type(self).__mro__
        described = next(kind for kind in kinds if "forms" in vars(kind))
        where = (next(kind for kind in kinds if name in vars(kind)) for name in _DESCRIBED)
        return bool(self.forms) and all(issubclass(described, kind) for kind in where)

    def order(self, scores: Scores) -> Tensor:
        """Return an increasing function of the gain that is cheaper to compute, if there is one."""
        return self.gain(scores)

    def decrements(self, products: Tensor) -> Scores:
        """Return what each step subtracts from each score, K times N x B, from what `products_` returns."""
        return tuple(products[:, track] for track in self.score_tracks)


_DESCRIBED = ("gain", "linear", "reach", "products_", "decrements", "score_tracks", "step_products", "start")
"""What forms must be of one class with, or of a subclass of, to be trusted."""


def tie_width(gains: Tensor, gain_scale: float) -> Tensor:
    """Return the differences of gains below which rows count as equal (then the smaller id wins)."""
    return TIE_SHARE * gains.abs() + TIE_REST * gain_scale


def variance_form(posterior: Posterior) -> Quadratic:
    """Return x'Sx as |x|^2 less what the picks have removed, |removed'x|^2."""
    return Quadratic(1.0, -1.0, posterior.removed_factor())
