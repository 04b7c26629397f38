"""One run of Ray Train whose workers carry out the tasks they find in a mailbox.

Two kinds of processes besides the driver: an office, which holds the mailbox and waits in `TorchTrainer.fit()`, so that
the driver need not and can end it; and the workers, which Ray Train starts, watches, and starts again all together
when one is lost. They then find the unfinished task in the mailbox and begin it anew, from its files.
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
from ray_itl.training.coordinator import Letter, Mailbox, Patience, Status
from ray_itl.training.trainer import TrainTask, carry_out

_POLL_S = 2.0
_LEAVE_S = 30.0
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
            self._await_leave()
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
            self._await_leave()
        self.kill()

    def kill(self) -> None:
        """End every process at once; a worker in the midst of a task leaves no trace of it."""
        ray.kill(self._office)  # with it end Ray Train and the workers; but what they reserved would stay reserved
        if self._place is not None:
            remove_placement_group(self._place)

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

    def _await_leave(self) -> None:
        if self._leaving is not None:
            self._leaving, leaving = None, self._leaving
            ray.get(leaving, timeout=_LEAVE_S)
            self._place = None

    def _ask(self, answer: Any) -> Any:
        return ray.get(answer, timeout=self._patience.restart_deadline_s)


class _Office(Mailbox):
    """The process that holds the mailbox and waits for Ray Train."""

    async def run(self, plan: WorkerPlan, placing_s: float) -> None:
        """Run Ray Train until the workers leave; raise if they find no place within so many seconds."""
        await asyncio.to_thread(_run_workers, plan, placing_s, ray.get_runtime_context().current_actor)


def _run_workers(plan: WorkerPlan, placing_s: float, mailbox: Any) -> None:
    """Run Ray Train until the workers leave; it restarts lost ones without limit, since the driver counts."""
    os.environ.update(_ENVIRONMENT)  # read while Ray Train is imported, too
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(placing_s / _PLACING_TRIES)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = {"CPU": plan.cpus_per_worker, **({"GPU": 1} if plan.use_gpu else {})}
    TorchTrainer(
        _serve,
        train_loop_config={"plan": plan, "mailbox": mailbox},
        torch_config=TorchConfig(backend="nccl" if plan.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.num_workers, use_gpu=plan.use_gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"workers-{secrets.token_hex(4)}",
            storage_path=plan.storage_path,
            failure_config=FailureConfig(max_failures=-1, controller_failure_limit=_PLACING_TRIES - 1),
        ),
    ).fit()


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
    if workers.rank == 0:
        ray.get(mailbox.arrive.remote(get_current_placement_group()))
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
