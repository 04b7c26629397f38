"""The one function that every trainer runs, on every worker; and the trainer that runs it in this process."""

from __future__ import annotations

import time

import torch

from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.examples import read_examples
from ray_itl.training.loop import train
from ray_itl.training.objectives import evaluate, training_objective
from ray_itl.training.registry import load
from ray_itl.training.seeds import derive_seed
from ray_itl.training.trainer import TrainResult, TrainTask, read_result, write_result
from ray_itl.training.workers import OneWorker, Workers


def run_task(task: TrainTask, workers: Workers, device: torch.device) -> TrainResult:
    """Train as a task says; worker 0 makes checkpoint and then result durable, all return the result.

    Args:
        task: What to train on what, and where the outcome goes.
        workers: All of them must call this.
        device: Of this worker.

    Raises:
        InputError, ConfigError, NumericalError: The task cannot succeed.
        RunDirectoryError: The output cannot be written.
    """
    began = time.perf_counter()
    learner = load(task.model, task.start, task.seed)
    if task.reset_head:
        learner.reset_head(derive_seed(task.seed, "head"))
    learner.to(device)
    examples = read_examples(task.examples)
    objective = training_objective(task.objective, examples, task.settings.reweight_classes)
    history = train(learner, examples, objective, task.settings, task.seed, workers)
    metrics = {}
    if task.heldout is not None:
        heldout = read_examples(task.heldout)
        metrics = evaluate(learner, heldout, objective, task.settings.evaluation_batch_size, workers)
    if workers.rank == 0:
        save_checkpoint(learner, task.output, task.trainable_only)
    result = TrainResult(task.output, history.losses, history.seconds, time.perf_counter() - began, metrics)
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
