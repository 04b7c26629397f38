"""Where a driver leaves training tasks and workers fetch them: the state, and what the driver makes of it.

It knows nothing of Ray: `session.py` makes an actor of it. Workers ask and report; the driver posts one task at a
time and looks. Nothing here decides a result, which is in the files that a task names.
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
class Letter:
    """What a worker fetches."""

    serial: int
    """Numbers tasks from 1."""
    task: TrainTask | None
    """None: there is no more to do, leave."""


@dataclass(frozen=True)
class Status:
    """How the task that was posted last is getting on."""

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
    place: Any
    """What workers said they live in, to be released if all have to be ended by force; None before one arrives."""


class Mailbox:
    """One task at a time from the driver to all workers, and their reports back."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._letter = Letter(0, None)
        self._finished = False
        self._error: RayItlError | None = None
        self._attempts = 0
        self._heard = time.monotonic()
        self._last_failure = ""
        self._place: Any = None

    async def post(self, letter: Letter) -> None:
        """Leave the next task; one that is not done is forgotten."""
        self._finished, self._error, self._attempts, self._last_failure = False, None, 0, ""
        self._heard = time.monotonic()
        await self._set(letter)

    @property
    def is_open(self) -> bool:
        """Whether workers are wanted: they have not been told to leave."""
        return self._letter.task is not None

    async def fetch(self, rank: int, after: int, wait_s: float) -> Letter | None:
        """Return the newest letter, waiting for it if it is done with or its serial not above `after`; or None."""
        await self._await(lambda: self._is_news(after), wait_s)
        if not self._is_news(after):
            return None
        self._attempts += rank == 0
        return self._letter

    async def report(self, serial: int, rank: int, error: RayItlError | None) -> None:
        """Note that a worker is done with a task, or why it cannot be done."""
        if serial != self._letter.serial:
            return
        self._finished = self._finished or (rank == 0 and error is None)
        self._error = self._error or error
        await self._set(self._letter)

    async def arrive(self, place: Any) -> None:
        """Note that a worker has come up, and in what."""
        self._place = place

    async def mourn(self, failure: str) -> None:
        """Note what is about to end a worker."""
        self._last_failure = failure

    async def beat(self) -> None:
        """Note that worker 0 is alive."""
        self._heard = time.monotonic()

    async def status(self, wait_s: float) -> Status:
        """Return how the task is getting on: when it is over, or after a time."""
        await self._await(lambda: self._finished or self._error is not None, wait_s)
        silent_s = time.monotonic() - self._heard
        return Status(self._finished, self._error, self._attempts, silent_s, self._last_failure, self._place)

    def _is_news(self, after: int) -> bool:
        return self._letter.serial > after and not self._finished

    async def _await(self, condition: Callable[[], bool], wait_s: float) -> None:
        """Wait until a condition holds, but no longer than a time."""
        with contextlib.suppress(TimeoutError):
            async with self._changed:
                await asyncio.wait_for(self._changed.wait_for(condition), wait_s)

    async def _set(self, letter: Letter) -> None:
        async with self._changed:
            self._letter = letter
            self._changed.notify_all()


@dataclass(frozen=True)
class Patience:
    """What a driver puts up with."""

    max_failures: int = 3
    """How often the workers may be lost during one task before giving up."""
    restart_deadline_s: float = 300.0
    """Seconds within which workers must find places, when they start and once lost; they then have as long again to
    come up."""

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.max_failures < 0:
            raise ConfigError(f"trainer.max_failures={self.max_failures} cannot be used: give a whole number >= 0")
        if not self.restart_deadline_s > 0:
            raise ConfigError(f"trainer.restart_deadline_s={self.restart_deadline_s} cannot be used: give seconds > 0")

    def verdict(self, status: Status) -> RayItlError | None:
        """Return the error to raise about a task that is not finished, or None to go on waiting. Pure."""
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
