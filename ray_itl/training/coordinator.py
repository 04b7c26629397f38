"""Hands training tasks from the driver to the workers and collects their reports; and when to give up.

It knows nothing of Ray: `TrainWorkers` runs it as an actor. The driver assigns one task at a time and asks for its
status; workers fetch and report. Nothing here decides a result, which is in the files that a task names.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray_itl.errors import ConfigError, RayItlError, TrainingError
from ray_itl.training.trainer import TrainTask


@dataclass(frozen=True)
class Assignment:
    """What a worker fetches: a task, or the order to leave."""

    serial: int
    """Numbers tasks from 1."""
    task: TrainTask | None
    """None: leave."""


@dataclass(frozen=True)
class TaskStatus:
    """How the task that was assigned last is getting on."""

    finished: bool
    """Worker 0 has made its result durable."""
    error: RayItlError | None
    """Why it cannot succeed."""
    attempts: int
    """How often a group of workers began it."""
    silent_s: float
    """Seconds without a sign of life from worker 0, counted from when workers could first be expected."""
    last_failure: str
    """The last exception that ended a worker, "" if none was seen (a killed process leaves none)."""
    placement_group: Any
    """Of the workers, to be removed if they have to be ended by force; None before one has registered."""


class TaskCoordinator:
    """Hands one task at a time to all workers and collects their reports."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._assignment = Assignment(0, None)
        self._finished = False
        self._error: RayItlError | None = None
        self._attempts = 0
        self._last_heartbeat = time.monotonic()
        self._last_failure = ""
        self._placement_group: Any = None

    async def assign(self, assignment: Assignment) -> None:
        """Set what workers are to do next; a task that is not done is forgotten."""
        self._finished, self._error, self._attempts, self._last_failure = False, None, 0, ""
        self._last_heartbeat = time.monotonic()
        await self._set(assignment)

    @property
    def is_open(self) -> bool:
        """Whether workers are wanted: they have not been told to leave."""
        return self._assignment.task is not None

    async def fetch(self, rank: int, after: int, wait_s: float) -> Assignment | None:
        """Return the newest assignment once it is unfinished and its serial above `after`.

        Args:
            rank: Of the worker that asks.
            after: Serial of the last assignment it is done with.
            wait_s: How long to wait for it.

        Returns:
            The assignment, or None if there is none in that time.
        """
        await self._await(lambda: self._is_new(after), wait_s)
        if not self._is_new(after):
            return None
        self._attempts += rank == 0
        return self._assignment

    async def report(self, serial: int, rank: int, error: RayItlError | None) -> None:
        """Record that a worker is done with a task, or why it cannot be done.

        Args:
            serial: Of the assignment; reports on earlier ones are ignored.
            rank: Of the worker.
            error: None when it is done.
        """
        if serial != self._assignment.serial:
            return
        self._finished = self._finished or (rank == 0 and error is None)
        self._error = self._error or error
        await self._set(self._assignment)

    async def register(self, placement_group: Any) -> None:
        """Record that a worker has started, and in which placement group."""
        self._placement_group = placement_group

    async def report_crash(self, failure: str) -> None:
        """Record what is about to end a worker."""
        self._last_failure = failure

    async def heartbeat(self) -> None:
        """Record that worker 0 is alive."""
        self._last_heartbeat = time.monotonic()

    async def status(self, wait_s: float) -> TaskStatus:
        """Return how the task is getting on: when it is over, or after a time."""
        await self._await(lambda: self._finished or self._error is not None, wait_s)
        silent_s = time.monotonic() - self._last_heartbeat
        return TaskStatus(
            finished=self._finished,
            error=self._error,
            attempts=self._attempts,
            silent_s=silent_s,
            last_failure=self._last_failure,
            placement_group=self._placement_group,
        )

    def _is_new(self, after: int) -> bool:
        return self._assignment.serial > after and not self._finished

    async def _await(self, condition: Callable[[], bool], wait_s: float) -> None:
        """Wait until a condition holds, but no longer than a time."""
        with contextlib.suppress(TimeoutError):
            async with self._changed:
                await asyncio.wait_for(self._changed.wait_for(condition), wait_s)

    async def _set(self, assignment: Assignment) -> None:
        async with self._changed:
            self._assignment = assignment
            self._changed.notify_all()


@dataclass(frozen=True)
class FailurePolicy:
    """When a driver gives up a task."""

    max_failures: int = 3
    """How often the workers may be lost during one task before giving up."""
    restart_deadline_s: float = 300.0
    """Seconds within which workers must find places, when they start and once lost; they then have as long again to
    come up."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: One is out of range.
        """
        if self.max_failures < 0:
            raise ConfigError(f"trainer.max_failures={self.max_failures} cannot be used: give a whole number >= 0")
        if not self.restart_deadline_s > 0:
            raise ConfigError(f"trainer.restart_deadline_s={self.restart_deadline_s} cannot be used: give seconds > 0")

    def decide(self, status: TaskStatus) -> RayItlError | None:
        """Return the error to raise about a task that is not finished, or None to go on waiting. Pure.

        Args:
            status: Of the task.
        """
        if status.error is not None:
            return status.error
        seen = f" (last failure seen: {status.last_failure})" if status.last_failure else ""
        if status.attempts > self.max_failures + 1:
            return TrainingError(
                f"the training workers were lost {status.attempts - 1} times during one task{seen}: see Ray's worker "
                "logs; if memory ran out lower training.batch_size or use larger nodes; raise trainer.max_failures "
                "where nodes come and go; then run the same command again"
            )
        if status.silent_s > 2 * self.restart_deadline_s:
            return TrainingError(
                f"no training worker answered within twice trainer.restart_deadline_s={self.restart_deadline_s:g} "
                f"seconds{seen}: see Ray's worker logs, or raise it; then run the same command again"
            )
        return None
