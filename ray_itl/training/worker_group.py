"""Workers of Ray Train that run one training task after another.

There are two kinds of processes besides the driver. The coordinator hands out tasks and waits in `TorchTrainer.fit()`,
so that the driver need not. The workers are started and watched by Ray Train. When one is lost, Ray Train ends all of
them, and the coordinator starts it anew; the new workers fetch the unfinished task and begin it again, from its files.

Ray Train must never restart workers by itself. It reserves a placement group for them, which outlives it when it is
ended by force, and the only one that can be released then is the one that a worker has registered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayError
from ray.util import get_current_placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor, distributed

from ray_itl.cluster.head import HeadWatch
from ray_itl.cluster.room import RoomAsked
from ray_itl.cluster.waiting import Tell, await_room
from ray_itl.errors import RayItlError, TrainingError
from ray_itl.text import error_summary
from ray_itl.training.coordinator import Assignment, FailurePolicy, TaskCoordinator, TaskStatus
from ray_itl.training.trainer import TrainTask, run_task

_POLL_INTERVAL_S = 2.0
_LOOK_S = 5.0
_REMEDY = "lower trainer.num_workers or trainer.cpus_per_worker, or raise the deadline"
_LEAVE_TIMEOUT_S = 30.0
_KILL_TIMEOUT_S = 10.0
_PLACEMENT_TRIES = 2
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

    @property
    def needs(self) -> dict[str, float]:
        """What a worker asks of a node, by Ray's names."""
        return {"CPU": self.cpus_per_worker, **({"GPU": 1.0} if self.use_gpu else {})}


class TrainWorkers:
    """Workers that run one task after another; they start with the first and stay until `release` or `close`."""

    def __init__(self, plan: WorkerPlan, policy: FailurePolicy, tell: Tell = lambda _: None) -> None:
        """Start the coordinator; workers start with the first task.

        Args:
            plan: The workers.
            policy: When to give up a task.
            tell: Told, in a line, that workers wait for room; None: no longer.
        """
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._plan, self._policy, self._tell = plan, policy, tell
        self._head = HeadWatch()
        self._serial = 0
        self._coordinator: Any = ray.remote(_Coordinator).options(num_cpus=0, scheduling_strategy=here).remote()
        self._running: Any = None  # the run of Ray Train whose workers take tasks
        self._leaving: Any = None  # the one whose workers were told to leave
        self._placement_group: Any = None  # where the workers are, once known

    def run(self, task: TrainTask) -> None:
        """Run a task on the workers; when this returns its result is durable.

        Args:
            task: With absolute paths.

        Raises:
            NoRoomError: Others hold what the workers need until the deadline.
            RayItlError: The task cannot succeed, or its workers could not be kept alive. All that can be called
                afterwards is `kill`.
        """
        plan, deadline_s = self._plan, self._policy.restart_deadline_s
        try:
            self._await_leave(deadline_s)
            if self._running is None:
                option = "trainer.restart_deadline_s"
                asked = RoomAsked("training worker", plan.num_workers, plan.needs, option, deadline_s)
                await_room(asked, self._tell, _REMEDY)
            self._assign(task)
            if self._running is None:
                self._running = self._coordinator.run.remote(self._plan, self._policy.restart_deadline_s)
            self._await_result(self._running)
        except RayError as error:
            raise TrainingError(
                f"Ray Train failed ({error_summary(error)}): if workers found no place within "
                f"trainer.restart_deadline_s={self._policy.restart_deadline_s:g} seconds, free or add nodes, lower "
                "trainer.num_workers or trainer.cpus_per_worker, or raise it; else see Ray's logs; then run the same "
                "command again"
            ) from error

    def release(self) -> None:
        """Tell the workers to leave, without waiting until they have; the next task gets new ones."""
        if self._running is not None:
            self._assign(None)
            self._running, self._leaving = None, self._running

    def close(self) -> None:
        """Tell the workers to leave, and end by force what has not ended soon after."""
        with contextlib.suppress(RayError):  # raised if it is all gone already
            self.release()
            self._await_leave(_LEAVE_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End every process at once; a worker in the midst of a task leaves no trace of it."""
        with contextlib.suppress(RayError):  # raised if the coordinator is gone, or too busy to answer
            self._serial += 1
            leave = self._coordinator.assign.remote(Assignment(self._serial, None))  # hereafter no workers are started
            _, status = ray.get([leave, self._coordinator.status.remote(0.0)], timeout=_KILL_TIMEOUT_S)
            self._placement_group = status.placement_group
        if self._placement_group is not None:
            remove_placement_group(self._placement_group)  # ends the workers in it, and thereby Ray Train
        running = [run for run in (self._running, self._leaving) if run is not None]
        ended = ray.wait(running, num_returns=len(running), timeout=_KILL_TIMEOUT_S)[0] if running else []
        if len(ended) == len(running) or self._placement_group is not None:
            ray.kill(self._coordinator)
        # Else workers are still coming up, in a place that only Ray Train knows. They find that they must leave.

    def _assign(self, task: TrainTask | None) -> None:
        self._serial += 1
        self._ask(self._coordinator.assign.remote(Assignment(self._serial, task)))

    def _await_result(self, ended: Any) -> None:
        while True:
            status: TaskStatus = self._ask(self._coordinator.status.remote(_POLL_INTERVAL_S))
            self._placement_group = status.placement_group
            if status.finished:
                return
            error = self._policy.decide(status)
            if error is not None:
                raise error
            if ray.wait([ended], timeout=0)[0]:
                ray.get(ended)
                raise TrainingError("Ray Train ended without running the task; run the same command again")

    def _await_leave(self, timeout_s: float) -> None:
        if self._leaving is not None:
            self._leaving, leaving = None, self._leaving
            self._get(leaving, timeout_s)
            self._placement_group = None

    def _ask(self, answer: Any) -> Any:
        return self._get(answer, self._policy.restart_deadline_s)

    def _get(self, answer: Any, timeout_s: float) -> Any:
        """Return an answer, and look meanwhile whether the head lives."""
        deadline = time.monotonic() + timeout_s
        while not ray.wait([answer], timeout=max(0.0, min(_LOOK_S, deadline - time.monotonic())))[0]:
            self._head.check()
            if time.monotonic() >= deadline:
                break
        return ray.get(answer, timeout=0)


class _Coordinator(TaskCoordinator):
    """The coordinator as an actor, which also waits for Ray Train."""

    async def run(self, plan: WorkerPlan, placement_timeout_s: float) -> None:
        """Run Ray Train, anew whenever it loses workers, until they leave: the driver counts losses.

        Args:
            plan: The workers.
            placement_timeout_s: How long to wait for room for them.

        Raises:
            ControllerError: They find no place within so many seconds.
        """
        coordinator = ray.get_runtime_context().current_actor
        while self.is_open:
            self._placement_group = None  # the one of lost workers is gone
            if await asyncio.to_thread(_run_workers, plan, placement_timeout_s, coordinator):
                return


def _run_workers(plan: WorkerPlan, placement_timeout_s: float, coordinator: Any) -> bool:
    """Run Ray Train once; return whether the workers left by themselves."""
    os.environ.update(_ENVIRONMENT)  # read while Ray Train is imported, too
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(placement_timeout_s / _PLACEMENT_TRIES)
    from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"plan": plan, "coordinator": coordinator},
        torch_config=TorchConfig(backend="nccl" if plan.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=plan.num_workers, use_gpu=plan.use_gpu, resources_per_worker=plan.needs
        ),
        run_config=RunConfig(
            name=f"workers-{secrets.token_hex(4)}",
            storage_path=plan.storage_path,
            failure_config=FailureConfig(
                max_failures=0, max_preemption_failures=0, controller_failure_limit=_PLACEMENT_TRIES - 1
            ),
        ),
    )
    try:
        trainer.fit()
    except ControllerError:
        raise
    except TrainingFailedError:  # lost workers: what is known of it, they have reported
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


def _run_worker(config: dict[str, Any]) -> None:
    """Fetch tasks and run them until told to leave; what Ray Train runs on every worker.

    Args:
        config: `plan` and `coordinator`.
    """
    plan: WorkerPlan = config["plan"]
    coordinator = config["coordinator"]
    torch.set_num_threads(plan.num_threads)
    device = torch.device("cuda", torch.cuda.current_device()) if plan.use_gpu else torch.device("cpu")
    workers = ProcessGroupWorkers()
    left = threading.Event()
    # Every worker says where it lives, since any can be the first to report that the task must be given up.
    ray.get(coordinator.register.remote(get_current_placement_group()))
    if workers.rank == 0:
        threading.Thread(target=_send_heartbeats, args=(coordinator, left), daemon=True).start()
    serial = 0
    try:
        while True:
            assignment: Assignment | None = ray.get(coordinator.fetch.remote(workers.rank, serial, _POLL_INTERVAL_S))
            if assignment is None:
                continue
            if assignment.task is None:
                return
            serial = assignment.serial
            _run_assignment(assignment.task, serial, workers, device, coordinator)
    finally:
        left.set()


def _run_assignment(task: TrainTask, serial: int, workers: ProcessGroupWorkers, device: Any, coordinator: Any) -> None:
    """Run a task and report; an error that would come again is reported, any other ends this worker."""
    try:
        run_task(task, workers, device)
    except RayItlError as error:
        ray.get(coordinator.report.remote(serial, workers.rank, error))
    except Exception as error:
        ray.get(coordinator.report_crash.remote(f"worker {workers.rank}: {error_summary(error)}"))
        raise
    else:
        ray.get(coordinator.report.remote(serial, workers.rank, None))


def _send_heartbeats(coordinator: Any, left: threading.Event) -> None:
    """Send signs of life at intervals, also in the midst of a task."""
    while not left.is_set():
        coordinator.heartbeat.remote()
        left.wait(_POLL_INTERVAL_S)
