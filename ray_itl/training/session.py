"""One run of Ray Train whose workers carry out the tasks they find in a mailbox.

Two kinds of processes besides the driver: an office, which holds the mailbox and waits in `TorchTrainer.fit()`, so that
the driver need not; and the workers, which Ray Train starts and watches. When one is lost, Ray Train ends all, and the
office starts it anew: the new workers find the unfinished task in the mailbox and begin it again, from its files.

Ray Train must never start workers again by itself. What it reserves for them is a placement group, which outlives it
when it is ended by force, and the only one that can be released then is the one that a worker has reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.util import get_current_placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor, distributed

from ray_itl.errors import RayItlError, TrainingError
from ray_itl.training.carry_out import carry_out
from ray_itl.training.mailbox import Letter, Mailbox, Patience, Status
from ray_itl.training.trainer import TrainTask

_POLL_S = 2.0
_LEAVE_S = 30.0
_END_S = 10.0
_PLACING_TRIES = 4
_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s adds seconds to every start and end
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in model.options mean the job's folder
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


@dataclass(frozen=True)
class WorkerPlan:
    """How many workers there are and what each asks of the cluster."""

    num_workers: int
    use_gpu: bool
    cpus_per_worker: float
    num_threads: int
    storage_path: str
    """Where Ray Train keeps its own notes: an absolute path or URI that every node can write."""


class Session:
    """Workers for one task after another; they start with the first and stay until `dismiss` or `close`."""

    def __init__(self, plan: WorkerPlan, patience: Patience) -> None:
        """Start the office.

        Args:
            plan: The workers.
            patience: How much loss to put up with.
        """
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._plan, self._patience = plan, patience
        self._serial = 0
        self._office: Any = ray.remote(_Office).options(num_cpus=0, scheduling_strategy=here).remote()
        self._present: Any = None  # resolves when Ray Train, while it runs, ends
        self._leaving: Any = None  # the same for workers that were dismissed
        self._place: Any = None  # the placement group of the workers, once known

    def run(self, task: TrainTask) -> None:
        """Have a task carried out; when this returns its result is durable.

        Raises:
            RayItlError: the task cannot succeed, or its workers could not be kept alive. All that is left to do with
                the session is to `kill` it.
        """
        try:
            self._await_leave(self._patience.restart_deadline_s)
            self._post(task)
            if self._present is None:
                self._present = self._office.run.remote(self._plan, self._patience.restart_deadline_s)
            self._await_result(self._present)
        except RayError as error:
            raise TrainingError(
                f"Ray Train failed ({_summary(error)}): if workers found no place within trainer.restart_deadline_s="
                f"{self._patience.restart_deadline_s:g} seconds, free or add nodes, lower trainer.num_workers or "
                "trainer.cpus_per_worker, or raise it; else see Ray's logs; then run the same command again"
            ) from error

    def dismiss(self) -> None:
        """Send the workers home, without waiting for them to leave; the next task gets new ones."""
        if self._present is not None:
            self._post(None)
            self._present, self._leaving = None, self._present

    def close(self) -> None:
        """Send the workers home, and end by force what has not ended soon after."""
        with contextlib.suppress(RayError):  # raised if it is all gone already
            self.dismiss()
            self._await_leave(_LEAVE_S)
        self.kill()

    def kill(self) -> None:
        """End every process at once; a worker in the midst of a task leaves no trace of it."""
        with contextlib.suppress(RayError):  # raised if the office is gone, or too busy to answer
            self._serial += 1
            leave = self._office.post.remote(Letter(self._serial, None))  # from here on no workers are started again
            self._place = ray.get([leave, self._office.status.remote(0.0)], timeout=_END_S)[1].place
        if self._place is not None:
            remove_placement_group(self._place)  # ends the workers in it, and thereby Ray Train
        running = [run for run in (self._present, self._leaving) if run is not None]
        ended = ray.wait(running, num_returns=len(running), timeout=_END_S)[0] if running else []
        if len(ended) == len(running) or self._place is not None:
            ray.kill(self._office)
        # Else workers are still coming up, in a place that only Ray Train knows. They find that they must leave.

    def _post(self, task: TrainTask | None) -> None:
        self._serial += 1
        self._ask(self._office.post.remote(Letter(self._serial, task)))

    def _await_result(self, ended: Any) -> None:
        while True:
            status: Status = self._ask(self._office.status.remote(_POLL_S))
            self._place = status.place
            if status.finished:
                return
            error = self._patience.verdict(status)
            if error is not None:
                raise error
            if ray.wait([ended], timeout=0)[0]:
                ray.get(ended)
                raise TrainingError("Ray Train ended without carrying out the task; run the same command again")

    def _await_leave(self, timeout_s: float) -> None:
        if self._leaving is not None:
            self._leaving, leaving = None, self._leaving
            ray.get(leaving, timeout=timeout_s)
            self._place = None

    def _ask(self, answer: Any) -> Any:
        return ray.get(answer, timeout=self._patience.restart_deadline_s)


class _Office(Mailbox):
    """The process that holds the mailbox and waits for Ray Train."""

    async def run(self, plan: WorkerPlan, placing_s: float) -> None:
        """Run Ray Train, anew whenever it loses workers, until they leave: the driver counts losses.

        Raises:
            ControllerError: They find no place within so many seconds.
        """
        mailbox = ray.get_runtime_context().current_actor
        while not await asyncio.to_thread(_run_workers, plan, placing_s, mailbox) and self.is_open:
            pass


def _run_workers(plan: WorkerPlan, placing_s: float, mailbox: Any) -> bool:
    """Run Ray Train once; return whether the workers left by themselves."""
    os.environ.update(_ENVIRONMENT)  # read while Ray Train is imported, too
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(placing_s / _PLACING_TRIES)
    from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": plan.cpus_per_worker, **({"GPU": 1} if plan.use_gpu else {})}
    trainer = TorchTrainer(
        _serve,
        train_loop_config={"plan": plan, "mailbox": mailbox},
        torch_config=TorchConfig(backend="nccl" if plan.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.num_workers, use_gpu=plan.use_gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"workers-{secrets.token_hex(4)}",
            storage_path=plan.storage_path,
            failure_config=FailureConfig(
                max_failures=0, max_preemption_failures=0, controller_failure_limit=_PLACING_TRIES - 1
            ),
        ),
    )
    try:
        trainer.fit()
    except ControllerError:
        raise
    except TrainingFailedError:  # what it was, workers have told the mailbox
        return False
    return True


class ProcessGroupWorkers:
    """The workers of a torch process group."""

    def __init__(self) -> None:
        """Ask torch who this worker is."""
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over all workers, one message for each dtype."""
        if self.size == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            same = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in same])
            distributed.all_reduce(flat)
            for tensor, total in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
                tensor.copy_(total.view_as(tensor))


def _serve(config: dict[str, Any]) -> None:
    """Be a worker: fetch tasks and carry them out until told to leave."""
    plan: WorkerPlan = config["plan"]
    mailbox = config["mailbox"]
    torch.set_num_threads(plan.num_threads)
    device = torch.device("cuda", torch.cuda.current_device()) if plan.use_gpu else torch.device("cpu")
    workers = ProcessGroupWorkers()
    left = threading.Event()
    # Every worker says where it lives, since any can be the first to report that the task must be given up.
    ray.get(mailbox.arrive.remote(get_current_placement_group()))
    if workers.rank == 0:
        threading.Thread(target=_beat, args=(mailbox, left), daemon=True).start()
    serial = 0
    try:
        while True:
            letter: Letter | None = ray.get(mailbox.fetch.remote(workers.rank, serial, _POLL_S))
            if letter is None:
                continue
            if letter.task is None:
                return
            serial = letter.serial
            _attempt(letter.task, serial, workers, device, mailbox)
    finally:
        left.set()


def _attempt(task: TrainTask, serial: int, workers: ProcessGroupWorkers, device: Any, mailbox: Any) -> None:
    """Carry out a task and report; an error that would come again is reported, any other ends this worker."""
    try:
        carry_out(task, workers, device)
    except RayItlError as error:
        ray.get(mailbox.report.remote(serial, workers.rank, error))
    except Exception as error:
        ray.get(mailbox.mourn.remote(f"worker {workers.rank}: {_summary(error)}"))
        raise
    else:
        ray.get(mailbox.report.remote(serial, workers.rank, None))


def _beat(mailbox: Any, left: threading.Event) -> None:
    """Tell the mailbox now and then that this process lives, also in the midst of a task."""
    while not left.is_set():
        mailbox.beat.remote()
        left.wait(_POLL_S)


def _summary(error: BaseException) -> str:
    """Return the first line of a message and, where Ray appends a traceback, the last."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return ": ".join(dict.fromkeys([type(error).__name__, *lines[:1], *lines[-1:]]))
