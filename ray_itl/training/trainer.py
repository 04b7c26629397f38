"""One fine-tuning as a task in files: what goes in, what comes out, and who carries it out.

A task reads files and writes a checkpoint and, beside it and last, a result in JSON. Both are durable before a trainer
returns, and a task whose result is there already is not carried out again: that is how every trainer resumes. One
function carries a task out, on every worker of every trainer.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Protocol

import torch

from ray_itl.errors import DivergedError, InputError
from ray_itl.io.atomic import write_json
from ray_itl.text import plural
from ray_itl.training.checkpoint import save_checkpoint, second_moments_path
from ray_itl.training.examples import read_examples
from ray_itl.training.loop import make_optimiser, train, trained_parameters
from ray_itl.training.objectives import evaluate, not_a_number, training_objective
from ray_itl.training.registry import ModelSpec, load
from ray_itl.training.second_moments import save_second_moments
from ray_itl.training.seeds import derive_seed
from ray_itl.training.settings import TrainingSettings
from ray_itl.training.workers import OneWorker, Workers

_VERSION, _VERSION_TO_A_LOSS = 1, 2
"""Raised when the same task would give another result than an earlier release did; the second of tasks that stop at a
loss, which ended with whatever their last step left."""


@dataclass(frozen=True)
class TrainTask:
    """Everything that decides the outcome of one fine-tuning; paths must be readable by every worker."""

    model: ModelSpec
    examples: str
    """File of `write_examples`."""
    output: str
    """Checkpoint to write; the result goes to the same name with ".json" added. The folder must exist."""
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    seed: int = 0
    """Fixes initial weights and the order of batches."""
    start: str | None = None
    """Checkpoint to start from. None: fresh weights."""
    reset_head: bool = False
    """Draw the output layer anew before training."""
    objective: str = "classification"
    """classification or causal_lm."""
    trainable_only: bool = False
    """Write only parameters that are trained (LoRA); `start` may then be such a checkpoint, too."""
    heldout: str | None = None
    """File of `write_examples` to score after training."""

    @property
    def result_path(self) -> Path:
        """Where the result goes."""
        return Path(self.output + ".json")

    def absolute(self) -> TrainTask:
        """Return the task with absolute paths, for processes that work in another folder."""
        paths = {name: getattr(self, name) for name in ("examples", "output", "start", "heldout")}
        return replace(self, **{name: str(Path(path).absolute()) for name, path in paths.items() if path is not None})


@dataclass(frozen=True)
class TrainResult:
    """What a fine-tuning gave."""

    checkpoint: str
    losses: list[float]
    """Mean loss of every epoch, over its batches as they were trained on."""
    seconds: list[float]
    """Of every epoch."""
    total_seconds: float
    """From reading the files to the checkpoint on disk; without starting workers."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Scores on the held-out examples, as `objectives.evaluate` returns them; empty without a held-out file."""
    stopped: str = ""
    """After how many steps and why training stopped, in words; "" from versions that did not tell."""


class Trainer(Protocol):
    """Carries out tasks, one at a time."""

    def fit(self, task: TrainTask) -> TrainResult:
        """Run a task, or return its result if it is done already.

        Raises:
            InputError, ConfigError, DivergedError: the task cannot succeed (says why and the remedy).
            TrainingError: workers failed more often than allowed, or did not start.
        """
        ...

    def close(self) -> None:
        """Let go of every process; may be called twice."""
        ...


def write_result(task: TrainTask, result: TrainResult) -> None:
    """Make a result durable, under the identity of its task."""
    write_json(task.result_path, {"task": task_identity(task), "result": asdict(result)})


def read_result(task: TrainTask) -> TrainResult | None:
    """Return the result that this very task left; None if it has left none, or its output is another task's."""
    try:
        content = json.loads(task.result_path.read_text())
        result = TrainResult(**{**content["result"], "checkpoint": task.output})
        known = content["task"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result if Path(task.output).exists() and known == task_identity(task) else None


def task_identity(task: TrainTask) -> str:
    """Return a digest of all that decides a task's outcome: options, and the contents of the files it reads.

    Raises:
        InputError: one of the files cannot be read.
    """
    settings = {name: value for name, value in asdict(task.settings).items() if task.settings.identity_of(name)}
    stops_at_loss = task.settings.stop_at_loss is not None or task.settings.stops_by_itself
    version = _VERSION_TO_A_LOSS if stops_at_loss else _VERSION
    options = {**asdict(task), "settings": settings, "output": None, "version": version}
    for name in ("examples", "start", "heldout"):
        options[name] = _file_identity(getattr(task, name), name)
    return sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def _file_identity(path: str | None, name: str) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{name} file {path!r} of a training task cannot be read ({error}): make it again") from error


def run_task(task: TrainTask, workers: Workers, device: torch.device) -> TrainResult:
    """Train as a task says; worker 0 makes checkpoint and then result durable, all return the result.

    Args:
        task: What to train on what, and where the outcome goes.
        workers: All of them must call this.
        device: Of this worker.

    Raises:
        InputError, ConfigError, DivergedError: The task cannot succeed; no checkpoint is left.
        RunDirectoryError: The output cannot be written.
    """
    began = time.perf_counter()
    learner = load(task.model, task.start, task.seed)
    if task.reset_head:
        learner.reset_head(derive_seed(task.seed, "head"))
    learner.to(device)
    examples = read_examples(task.examples)
    objective = training_objective(task.objective, examples, task.settings.reweight_classes)
    optimiser = make_optimiser(trained_parameters(learner), task.settings)
    history = train(learner, examples, objective, task.settings, task.seed, workers, optimiser)
    metrics = {}
    if task.heldout is not None:
        heldout = read_examples(task.heldout)
        metrics = evaluate(learner, heldout, objective, task.settings.evaluation_batch_size, workers)
        if (odd := not_a_number(metrics)) is not None:  # on every worker
            raise DivergedError(
                f"the training diverged: held-out rows score {odd} after it; lower training.learning_rate or set "
                "training.max_gradient_norm"
            )
    if workers.rank == 0:
        if task.settings.keep_second_moments:
            save_second_moments(learner, optimiser, second_moments_path(task.output))
        save_checkpoint(learner, task.output, task.trainable_only)
    stopped = f"{plural(history.steps, 'step')}: {history.stopped}"
    seconds = time.perf_counter() - began
    result = TrainResult(task.output, history.losses, history.seconds, seconds, metrics, stopped)
    if workers.rank == 0:
        write_result(task, result)
    return result


class LocalTrainer:
    """A Trainer that works in this process."""

    def __init__(self, device: str = "cpu") -> None:
        """Train on a torch device ("cpu", "cuda", "cuda:1")."""
        self._device = torch.device(device)

    def fit(self, task: TrainTask) -> TrainResult:
        """Run a task, or return its result if it is done already; raises what `run_task` does."""
        return read_result(task) or run_task(task, OneWorker(), self._device)

    def close(self) -> None:
        """Do nothing: there is no process to let go of."""
