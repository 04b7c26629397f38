"""The right to work on a state directory: one process at a time, for as long as it shows that it lives.

A claim in the log (see `tick_log`) carries who holds it and for how long it lasts unrenewed. Its owner renews it, each
time with another number. Another process may claim the next entry once the claim was released, once the process that
holds it is known to have ended (on its own machine), or once it has itself watched the claim stay as it is for as long
as it lasts, by a clock of its own that never jumps. No two clocks are compared for that, and none has to be right.
The time of day in a claim only says whether watching is worth while for a process that was not asked to wait.

Publishing adds that same next number, so it fails for a process whose claim was taken over, whatever it believes about
the time.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from ray_itl.errors import BusyError, RunDirectoryError
from ray_itl.io.process import has_ended, own_process
from ray_itl.observability.status import every
from ray_itl.ticks.log import Entry, TickLog

_BEATS = 4
_RELEASED = 0.0
_LOOK_EVERY_S = 2.0


def _awake_and_asleep() -> float:
    """Return seconds on a clock that never jumps and goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True)
class Clocks:
    """What tells the time, all in seconds."""

    day: Callable[[], float] = time.time
    """Since 1970; it may be wrong, jump, or go back."""
    awake: Callable[[], float] = time.monotonic
    """By it others are watched: what passes while this machine sleeps may be lost, so that nobody is given up early."""
    always: Callable[[], float] = _awake_and_asleep
    """By it this process's own claim runs out: what passes while this machine sleeps counts."""
    sleep: Callable[[float], object] = time.sleep


class Lease:
    """A claim that this process holds; make one with `acquire`."""

    def __init__(
        self, log: TickLog, number: int, claim: Mapping[str, Any], seconds: float, clocks: Clocks, since: float
    ) -> None:
        self.number = number
        self._log = log
        self._claim = claim
        self._seconds = seconds
        self._clocks = clocks
        self._beat = 0
        self._renewed = since
        self._is_lost = False
        self._writing = threading.Lock()

    def check(self) -> None:
        """Raise BusyError where another process has taken over since the last renewal."""
        if self._is_lost:
            raise BusyError(self._lost())

    def renew(self) -> None:
        """Show that this process lives, or notice that another has taken over."""
        with self._writing:
            if self._is_lost:
                return
            if self._log.has(self.number + 1):
                self._is_lost = True
                return
            now = self._clocks.always()
            self._beat += 1
            self._log.renew(self.number, _living(self._claim, self._beat, self._seconds, self._clocks))
            self._renewed = now

    def written_now(self) -> tuple[pafs.FileSystem, str]:
        """Renew, and return the file that this writes: its time is the present by the clock of whoever keeps it."""
        self.renew()
        return self._log.place(self.number)

    def publish(self, content: Mapping[str, Any]) -> None:
        """Add a tick to the log, which also ends the lease.

        Raises:
            BusyError: another process has taken over, or (where adding is not one atomic step, see `Store`) might have.
        """
        with self._writing:
            late = not self._log.store.is_local and self._clocks.always() > self._renewed + self._seconds
            if self._is_lost or late or not self._log.add(self.number + 1, "tick", {**content, "claim": self._claim}):
                self._is_lost = True
                raise BusyError(self._lost())
            self._is_lost = True

    def release(self) -> None:
        """Let another process begin at once; does nothing after `publish` or a loss."""
        with self._writing, suppress(RunDirectoryError):  # a claim that cannot be released runs out
            if not self._is_lost and not self._log.has(self.number + 1):
                living = _living(self._claim, self._beat + 1, self._seconds, self._clocks)
                self._log.renew(self.number, {**living, "expires": _RELEASED})
            self._is_lost = True

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renew from a thread; at the end, release what was not published."""

        def renew() -> None:
            with suppress(RunDirectoryError):  # a filesystem that errs now and then: the next beat may succeed
                self.renew()

        try:
            with every(renew, self._seconds / _BEATS, "lease"):
                yield
        finally:
            self.release()

    def _lost(self) -> str:
        return (
            f"tick {self._claim['tick']} was taken for dead, and another process has taken over the state directory "
            f"{self._log.store.location}: nothing was published; run it again later, with a larger state.lease_s if "
            "this machine often stalls"
        )


def acquire(
    log: TickLog,
    tick: str,
    seconds: float,
    submission_id: str | None,
    wait_s: float = 0.0,
    notify: Callable[[str], object] = lambda _: None,
    clocks: Clocks | None = None,
) -> Lease:
    """Claim the right to work on the log's state directory.

    Where another process holds it, this one waits for up to `wait_s`; and where that one looks dead by the time of day,
    for as long as it takes to see that it is, or that it lives.

    Args:
        log: The log.
        tick: What for.
        seconds: How long without a renewal until the claim runs out.
        submission_id: Of the Ray job that this process is, if it is one.
        wait_s: Seconds to wait for a process that lives.
        notify: Told once whom it waits for.
        clocks: What tells the time.

    Raises:
        BusyError: a live process holds it (says which).
        RunDirectoryError: the state directory cannot be read or written.
    """
    clocks = clocks or Clocks()
    watch = _Watch(clocks)
    deadline = clocks.awake() + wait_s
    is_told = False
    while True:
        last = watch.look(log)
        if last is None or watch.may_succeed:
            lease = _claim(log, last, tick, seconds, submission_id, clocks)
            if lease is not None:
                return lease
            if clocks.awake() >= deadline:
                raise BusyError(f"another tick began at the same moment in {log.store.location}; try again later")
            continue
        left = max(deadline - clocks.awake(), watch.left if watch.looks_dead else 0.0)
        if left <= 0:
            raise BusyError(_describe(last, clocks.day(), log.store.location))
        if not is_told:
            notify(f"waiting for up to {left:.0f} s: {_describe(last, clocks.day(), log.store.location)}")
        is_told = True
        clocks.sleep(min(left, _LOOK_EVERY_S, _lasts(last) / _BEATS))


def _claim(
    log: TickLog, last: Entry | None, tick: str, seconds: float, submission_id: str | None, clocks: Clocks
) -> Lease | None:
    """Add a claim after the last entry; None if another process was faster."""
    number = 0 if last is None else last.number + 1
    claim = {
        "tick": tick,
        "owner": secrets.token_hex(16),
        **own_process(),
        "submission_id": submission_id,
        "since": clocks.day(),
    }
    since = clocks.always()
    if not log.add(number, "claim", _living(claim, 0, seconds, clocks)):
        return None
    return Lease(log, number, claim, seconds, clocks, since)


def _living(claim: Mapping[str, Any], beat: int, seconds: float, clocks: Clocks) -> dict[str, Any]:
    """Return a claim as its owner writes it at a beat; the time of day is for people and for older versions."""
    now = clocks.day()
    return {**claim, "beat": beat, "lasts": seconds, "heartbeat": now, "expires": now + seconds}


class _Watch:
    """What this process has seen of the last entry of a log, and for how long."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._entry: Entry | None = None
        self._since = 0.0
        self._seen_for = 0.0
        self._changes = -1

    def look(self, log: TickLog) -> Entry | None:
        """Return the last entry as it is now."""
        began = self._clocks.awake()
        entry = log.last()
        if entry != self._entry:
            self._entry, self._since = entry, self._clocks.awake()
            self._changes += 1
        self._seen_for = began - self._since
        return entry

    @property
    def may_succeed(self) -> bool:
        """Whether nobody holds the state: the last entry is no claim, or one that has ended."""
        entry = self._entry
        if entry is None or entry.kind != "claim" or entry.content["expires"] == _RELEASED:
            return True
        return self.left <= 0 or has_ended(entry.content)

    @property
    def left(self) -> float:
        """For how many more seconds the claim must stay as it is to be taken for dead."""
        return 0.0 if self._entry is None else _lasts(self._entry) - max(self._seen_for, 0.0)

    @property
    def looks_dead(self) -> bool:
        """Whether a claim that never changed here is late, or from the future, by the time of day."""
        if self._entry is None or self._changes > 0:
            return False
        return not 0 <= self._clocks.day() - float(self._entry.content["heartbeat"]) < _lasts(self._entry)


def _lasts(entry: Entry) -> float:
    """Return for how many seconds a claim lasts unrenewed, also one of an older version."""
    claim = entry.content
    return float(claim.get("lasts", claim["expires"] - claim["heartbeat"]))


def _describe(entry: Entry, now: float, location: str) -> str:
    claim = entry.content
    job = "" if claim["submission_id"] is None else f", Ray job {claim['submission_id']}"
    age = now - claim["heartbeat"]
    sign = f"last sign of life {age:.0f} s ago" if age >= 0 else "its clock is ahead of this machine's"
    return (
        f"tick {claim['tick']} is at work in {location} (process {claim['pid']} on {claim['host']}{job}; {sign}; taken "
        f"for dead once it gives none for {_lasts(entry):.0f} s): try again later"
    )
