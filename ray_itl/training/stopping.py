"""When a training stops: after so many steps, once it has learnt its examples, or when the loss stops falling."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ray_itl.text import plural
from ray_itl.training.examples import Examples
from ray_itl.training.objectives import Objective
from ray_itl.training.seeds import derive_seed
from ray_itl.training.settings import CHECK_STEPS, LEARNT_LOSS, MOST_HELD_BACK, PATIENCE, TrainingSettings

_MOST_STEPS, _MOST_EPOCHS = 1000, 10
"""Of a training that nothing limits and whose loss goes on falling: the larger of the two."""
_LEAST_FALL = 0.01
"""By how much of itself a loss must be below the least so far to count as fallen."""


@dataclass(frozen=True)
class StoppingPlan:
    """How long to train on so many examples."""

    most_steps: int
    limit: str
    """What `most_steps` is, in words."""
    stop_at_loss: float | None
    """Of an epoch."""
    patience: int | None
    """Checks without a fall; None: the loss is not looked at."""
    check_every: int
    """Steps from check to check."""
    num_held_back: int

    @classmethod
    def of(cls, settings: TrainingSettings, num_examples: int, objective: Objective) -> StoppingPlan:
        """Return the plan that the options make for a number of examples."""
        patience = settings.patience or (PATIENCE if settings.stops_by_itself else None)
        held_back = 0 if patience is None else _num_held_back(settings.held_back, num_examples, objective)
        epoch = math.ceil((num_examples - held_back) / settings.batch_size)
        most, limit = _limit(settings, epoch)
        at_loss = settings.stop_at_loss
        if at_loss is None and settings.stops_by_itself:
            at_loss = LEARNT_LOSS
        return cls(most, limit, at_loss, patience, max(CHECK_STEPS, epoch), held_back)

    def split(self, examples: Examples, seed: int) -> tuple[Examples, Examples]:
        """Return the examples to train on, and those held back, drawn by the seed."""
        if not self.num_held_back:
            return examples, examples.take(slice(0, 0))
        generator = torch.Generator().manual_seed(derive_seed(seed, "held back"))
        order = torch.randperm(len(examples), generator=generator)
        held, rest = order[: self.num_held_back].sort().values, order[self.num_held_back :].sort().values
        return examples.take(rest), examples.take(held)


@dataclass
class History:
    """What happened in every epoch, and why there was no other."""

    losses: list[float] = field(default_factory=list)
    """Mean loss over the epoch's batches, as they were trained on; the last epoch may be a part of one."""
    seconds: list[float] = field(default_factory=list)
    steps: int = 0
    stopped: str = ""
    """Why training stopped, in words."""


class Course:
    """Follows a training step by step and says when it is over; keeps the weights of the least loss held back."""

    def __init__(
        self,
        plan: StoppingPlan,
        weights: Sequence[Tensor],
        held_back_loss: Callable[[], float],
        training_loss: Callable[[], float],
    ) -> None:
        """Begin.

        Args:
            plan: How long to train.
            weights: Live tensors of the model, which `keep_best` changes.
            held_back_loss: Computes the loss of the examples held back; the same on all workers.
            training_loss: The same of those that are trained on.
        """
        self.history = History(stopped=plan.limit)
        self._plan, self._weights = plan, weights
        self._held_back_loss, self._training_loss = held_back_loss, training_loss
        self._epoch, self._since_check, self._began = _Mean(), _Mean(), time.perf_counter()
        self._best: list[Tensor] = []
        self._least, self._least_at, self._waited = math.inf, 0, 0

    def is_over(self, step: int, sums: Tensor, ends_epoch: bool) -> bool:
        """Take note of a step, with its sums of losses and weights; return whether it was the last."""
        plan = self._plan
        self._epoch.add(sums)
        self._since_check.add(sums)
        reason = ""
        if ends_epoch and plan.stop_at_loss is not None and self._has_learnt(plan.stop_at_loss):
            reason = f"the loss of training was at most {plan.stop_at_loss:g}"
        if not reason and plan.patience is not None and step % plan.check_every == 0:
            reason = self._check(step)
        if reason or ends_epoch or step == plan.most_steps:
            self._end_epoch(step)
        self.history.stopped = reason or plan.limit
        return bool(reason)

    @torch.no_grad()
    def keep_best(self) -> None:
        """Put the weights of the least loss held back into the model, where some were held back."""
        for tensor, best in zip(self._weights, self._best, strict=False):
            tensor.copy_(best)

    def _has_learnt(self, loss: float) -> bool:
        """Whether the epoch's loss is low, and that of the weights that it ends with, which its last step may spoil.

        Steps of Adam are large where gradients have become small: of 80 digits, learnt at a loss of 0.006, one step led
        to 0.35, and from an accuracy of 0.96 to 0.84.
        """
        return self._epoch.value <= loss and self._training_loss() <= loss

    def _check(self, step: int) -> str:
        """Look whether the loss has fallen; return why to stop, or nothing."""
        loss = self._held_back_loss() if self._plan.num_held_back else self._since_check.value
        self._since_check = _Mean()
        if loss < self._least * (1 - _LEAST_FALL):
            self._least, self._least_at, self._waited = loss, step, 0
            if self._plan.num_held_back:
                self._best = [tensor.detach().clone() for tensor in self._weights]
            return ""
        self._waited += 1
        if self._waited < (self._plan.patience or 0):
            return ""
        if not self._plan.num_held_back:
            return f"the loss of training had not fallen since step {self._least_at:,}"
        held_back = plural(self._plan.num_held_back, "example")
        return f"the loss of {held_back} held back had not fallen since step {self._least_at:,}, whose weights are kept"

    def _end_epoch(self, step: int) -> None:
        self.history.losses.append(self._epoch.value)
        self.history.seconds.append(time.perf_counter() - self._began)
        self.history.steps = step
        self._epoch, self._began = _Mean(), time.perf_counter()


class _Mean:
    """A mean of losses, from sums of them and of their weights."""

    def __init__(self) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64)

    def add(self, sums: Tensor) -> None:
        self._sums += sums

    @property
    def value(self) -> float:
        loss, weight = self._sums.tolist()
        return loss / weight


def _num_held_back(share: float | None, count: int, objective: Objective) -> int:
    if share is None:
        share = objective.share_held_back if count >= objective.enough_to_hold_back else 0.0
    return min(int(share * count), MOST_HELD_BACK)


def _limit(settings: TrainingSettings, epoch: int) -> tuple[int, str]:
    """Return the most steps, of epochs of so many, and what they are in words."""
    if settings.stops_by_itself:
        most = max(_MOST_STEPS, _MOST_EPOCHS * epoch)
        return most, f"{most:,} steps are the most where no limit is set"
    limits = []
    if settings.epochs is not None:
        limits.append((settings.epochs * epoch, f"training.epochs={settings.epochs}"))
    if settings.steps is not None:
        limits.append((settings.steps, f"training.steps={settings.steps}"))
    return min(limits)
