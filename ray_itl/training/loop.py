"""Training in plain torch, on one worker or many, with the same result.

Every step takes a global batch, splits it over the workers, and sums their gradients; so the parameters after each
step are the same function of the batch for any number of workers, up to the rounding of that sum, and bit for bit on
one worker wherever it runs. This holds for models without batch normalisation (its statistics would be those of a
worker's part) and without dropout (every worker drops its own); the models shipped here have neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from ray_itl.errors import ConfigError, DivergedError, InputError
from ray_itl.training.examples import Examples
from ray_itl.training.learner import Learner
from ray_itl.training.objectives import Objective, mean_loss
from ray_itl.training.seeds import derive_seed
from ray_itl.training.settings import TrainingSettings
from ray_itl.training.stopping import Course, History, StoppingPlan
from ray_itl.training.workers import OneWorker, Workers


def train(
    learner: Learner,
    examples: Examples,
    objective: Objective,
    settings: TrainingSettings,
    seed: int,
    workers: Workers | None = None,
    optimiser: torch.optim.Optimizer | None = None,
) -> History:
    """Train a learner in place, on the device it is on, and leave it in evaluation mode.

    Every worker holds the same weights and all examples, and computes the same history. The order of the batches is
    drawn from the seed, anew for every epoch; torch's global random state is left as it was. An optimiser of
    `make_optimiser` for `trained_parameters` may be handed over, for the sake of its state afterwards.

    Raises:
        InputError: no examples, or some that do not fit the learner.
        ConfigError: the learner has nothing to train.
        DivergedError: the loss or a weight became NaN or infinite.
    """
    workers = workers or OneWorker()
    parameters = trained_parameters(learner)
    _check(learner, examples, objective, settings)
    optimiser = optimiser or make_optimiser(parameters, settings)
    plan = StoppingPlan.of(settings, len(examples), objective)
    examples, held_back = plan.split(examples.to(parameters[0].device), seed)
    weights = [*parameters, *learner.buffers()]
    rows = settings.evaluation_batch_size
    course = Course(
        plan,
        weights,
        *(partial(mean_loss, learner, each, objective, rows, workers) for each in (held_back, examples)),
    )
    order = torch.Generator().manual_seed(derive_seed(seed, "batches"))
    learner.train()
    with _reproducible(derive_seed(seed, "dropout", workers.rank)):
        batches = islice(_batches(len(examples), settings.batch_size, order), plan.most_steps)
        for step, (batch, ends_epoch) in enumerate(batches, start=1):
            new = _step(learner, examples, objective, batch, optimiser, settings.max_gradient_norm, workers)
            _require_finite(f"loss is {float(new[0])}", new, step, len(course.history.losses))
            if course.is_over(step, new, ends_epoch):
                break
    history = course.history
    # The last step may have spoilt what its loss did not show.
    for parameter in parameters if history.steps else ():
        _require_finite("weights are no numbers", parameter.detach(), history.steps, len(history.losses) - 1)
    course.keep_best()
    learner.eval()
    return history


def _batches(count: int, size: int, order: torch.Generator) -> Iterator[tuple[Tensor, bool]]:
    """Yield batches of numbers below `count` without end, anew for every epoch, and whether each is its epoch's last.

    Nothing where there are no examples.
    """
    while count:
        parts = torch.randperm(count, generator=order).split(size)
        yield from ((part, number == len(parts)) for number, part in enumerate(parts, start=1))


def trained_parameters(learner: Learner) -> list[nn.Parameter]:
    """Return what of a learner is trained: all that requires a gradient; ConfigError where nothing does."""
    if found := [parameter for parameter in learner.parameters() if parameter.requires_grad]:
        return found
    raise ConfigError(f"{type(learner).__name__} has no parameter that requires a gradient: nothing can be trained")


def make_optimiser(parameters: list[nn.Parameter], settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay)


def _step(
    learner: Learner,
    examples: Examples,
    objective: Objective,
    batch: Tensor,
    optimiser: torch.optim.Optimizer,
    max_norm: float | None,
    workers: Workers,
) -> Tensor:
    """Take one step on the examples numbered `batch`; return loss and weight summed over all workers."""
    own = batch.tensor_split(workers.size)[workers.rank]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    sums = parameters[0].new_zeros(2, dtype=torch.float32)
    optimiser.zero_grad()
    if len(own):
        loss, weight = objective.loss(learner, examples.take(own.to(sums.device)))
        loss.backward()
        sums = torch.stack([loss.detach(), weight]).float()
    for parameter in parameters:
        if parameter.grad is None:  # an unused one, or a worker without examples: all must sum the same tensors
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    workers.sum_([*gradients, sums])
    for gradient in gradients:
        gradient.div_(sums[1])
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
    optimiser.step()
    return sums.cpu()


def _require_finite(what: str, values: Tensor, step: int, epoch: int) -> None:
    """Raise DivergedError if a value is NaN or infinite; all workers see the same values."""
    if not torch.isfinite(values).all():
        raise DivergedError(
            f"the training diverged: its {what} at step {step} (epoch {epoch + 1}); lower training.learning_rate or "
            "set training.max_gradient_norm"
        )


def _check(learner: Learner, examples: Examples, objective: Objective, settings: TrainingSettings) -> None:
    if 0 not in (settings.epochs, settings.steps) and not len(examples):
        raise InputError("there are no examples to train on: label at least one, or set training.epochs=0")
    objective.check(learner, examples)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch on every device and ask for the same GPU kernels every time; restore both afterwards."""
    devices = range(torch.cuda.device_count())
    with (
        torch.random.fork_rng(devices=devices),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True),
    ):
        torch.manual_seed(seed)
        yield
