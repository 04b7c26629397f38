"""Fine-tuning on the workers of a Ray cluster."""

from __future__ import annotations

from pathlib import Path

import ray

from ray_itl.cluster.waiting import Tell
from ray_itl.errors import ConfigError, TrainingError
from ray_itl.options.checks import require
from ray_itl.training.coordinator import FailurePolicy
from ray_itl.training.trainer import TrainResult, TrainTask, read_result
from ray_itl.training.worker_group import TrainWorkers, WorkerPlan


class RayTrainer:
    """A Trainer on Ray Train (gloo on CPUs, nccl on GPUs), with the result of LocalTrainer.

    On one worker the result is the same bit for bit if the worker uses as many threads; on several it is the same up
    to the rounding of sums.

    By default every task gets workers of its own, which leave as `fit` returns: between rounds no CPU or GPU is
    held, and nothing of one round can reach the next. With `long_lived`, the workers stay and wait for the next task,
    which saves the seconds in which processes start and import torch; they hold their CPUs or GPUs until `close`.
    """

    def __init__(
        self,
        num_workers: int,
        storage_path: str,
        *,
        use_gpu: bool = False,
        cpus_per_worker: float = 0.5,
        num_threads: int | None = None,
        long_lived: bool = False,
        max_failures: int = 3,
        restart_deadline_s: float = 300.0,
        tell: Tell = lambda _: None,
    ) -> None:
        """Check options; nothing starts before the first task.

        Args:
            num_workers: Workers that share every batch.
            storage_path: Folder (or URI) for Ray Train's own notes, writable from every node; a small folder is left
                there for every start of workers.
            use_gpu: One GPU a worker.
            cpus_per_worker: CPUs a worker reserves. A fraction leaves room for shards, which rest while it works.
            num_threads: Threads a worker computes with. None: cpus_per_worker rounded down, at least 1.
            long_lived: Keep the workers between tasks.
            max_failures: How often workers may be lost during one task.
            restart_deadline_s: Seconds within which workers must find places, when they start and once lost.
            tell: Told, in a line, that workers wait for room; None: no longer.

        Raises:
            ConfigError: An option is out of range.
        """
        require(num_workers >= 1, "trainer.num_workers", num_workers, "at least 1")
        require(cpus_per_worker > 0, "trainer.cpus_per_worker", cpus_per_worker, "above 0")
        require(num_threads is None or num_threads >= 1, "trainer.num_threads", num_threads, "at least 1, or null")
        if "://" not in storage_path:
            storage_path = str(Path(storage_path).absolute())
        threads = max(1, int(cpus_per_worker)) if num_threads is None else num_threads
        self._plan = WorkerPlan(num_workers, use_gpu, cpus_per_worker, threads, storage_path)
        self._policy = FailurePolicy(max_failures, restart_deadline_s)
        self._long_lived = long_lived
        self._tell = tell
        self._workers: TrainWorkers | None = None

    def fit(self, task: TrainTask) -> TrainResult:
        """Run a task on the workers, or return its result if it is done already.

        Args:
            task: Paths that every worker can read.

        Raises:
            InputError, ConfigError, DivergedError: The task cannot succeed (says why and the remedy).
            NoRoomError: Others hold what the workers need until the deadline.
            TrainingError: Workers failed more often than allowed, did not start in time, or wrote to another disk.
        """
        task = task.absolute()
        result = read_result(task)
        if result is None:
            self._run(task)
            result = read_result(task)
        if result is None:
            raise TrainingError(
                f"the workers finished, but {task.result_path} is not here: use a run directory that every node mounts"
            )
        return result

    def close(self) -> None:
        """Let the workers go; may be called twice, and `fit` again afterwards."""
        workers, self._workers = self._workers, None
        if workers is not None and ray.is_initialized():
            workers.close()

    def _run(self, task: TrainTask) -> None:
        if not ray.is_initialized():
            raise ConfigError("RayTrainer needs a Ray cluster: connect to one first (ray_itl.cluster.connection)")
        if self._workers is None:
            self._workers = TrainWorkers(self._plan, self._policy, self._tell)
        try:
            self._workers.run(task)
            if not self._long_lived:
                self._workers.release()
        except BaseException:
            self._workers.kill()
            self._workers = None
            raise
