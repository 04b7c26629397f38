"""A pool that clocks whoever uses it: what a selection spends where, told from outside the engine."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

from ray_itl.core.messages import Request, RowBatch
from ray_itl.core.pool import Pool
from ray_itl.core.shard import PoolShard

T = TypeVar("T")
START, PROPOSALS, VERIFICATION, OTHERS = "start", "proposals", "verification", "other calls"
_KINDS = {"restore": START, "propose": PROPOSALS, "verify": VERIFICATION}


class Clock:
    """Seconds and calls by kind; a call within another counts for its own kind alone."""

    def __init__(
        self,
        settle: Callable[[], object] = lambda: None,
        watch: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext(),
    ) -> None:
        """Begin at nothing.

        Args:
            settle: Called before every look at the time, such as to wait for a device.
            watch: Makes, of the kind, a context in which the work is done.
        """
        self._settle = settle
        self._watch = watch
        self._within: list[tuple[float, float]] = []
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)
        """Of all threads of this process."""
        self.calls: dict[str, int] = defaultdict(int)

    def time(self, kind: str, work: Callable[[], T]) -> T:
        """Do some work and count it."""
        self._within.append((0.0, 0.0))
        began = self._now()
        try:
            with self._watch(kind):
                return work()
        finally:
            taken, spent = (now - then for now, then in zip(self._now(), began, strict=True))
            wall, cpu = self._within.pop()
            self.seconds[kind] += taken - wall
            self.cpu_seconds[kind] += spent - cpu
            self.calls[kind] += 1
            if self._within:
                wall, cpu = self._within[-1]
                self._within[-1] = (wall + taken, cpu + spent)

    def _now(self) -> tuple[float, float]:
        self._settle()
        return time.perf_counter(), time.process_time()


class _ClockedPool:
    """Passes every call on to a pool."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._pool, name)
        if not callable(value):
            return value
        return lambda *given, **named: self._clock.time(_KINDS.get(name, OTHERS), lambda: value(*given, **named))


def clocked(pool: Pool, clock: Clock) -> Pool:
    """Return the same pool, each call of which is clocked; new methods of `Pool` are, too."""
    return cast(Pool, _ClockedPool(pool, clock))


class ClockedShard(PoolShard):
    """A shard that tells the proposals that it makes in the course of a verify pass from the pass itself."""

    clock: Clock | None = None
    """Set once it is made."""

    def propose(self, request: Request) -> RowBatch:
        """See `PoolShard.propose`."""
        propose = super().propose
        return propose(request) if self.clock is None else self.clock.time(PROPOSALS, lambda: propose(request))
