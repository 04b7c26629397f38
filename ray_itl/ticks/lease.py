"""The right to work on a state directory: one process at a time, for as long as it shows that it lives.

A claim in the log (see `tick_log`) carries who holds it and until when. Its owner renews it; once it has run out, or
was released, another process may claim the next number. Publishing adds that same next number, so it fails for a
process whose claim was taken over, whatever it believes about the time. Clocks of different machines are compared:
they should agree to a fraction of the lease's seconds, or a live tick may be taken for dead (and then cannot publish).
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ray_itl.errors import BusyError, RunDirectoryError
from ray_itl.observability.status import every
from ray_itl.ticks.log import Entry, TickLog

_BEATS = 4
_LOOK_EVERY_S = 2.0


class Lease:
    """A claim that this process holds; make one with `acquire`."""

    def __init__(
        self, log: TickLog, number: int, claim: Mapping[str, Any], seconds: float, clock: Callable[[], float]
    ) -> None:
        self.number = number
        self._log = log
        self._claim = claim
        self._seconds = seconds
        self._clock = clock
        self._renewed = clock()
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
            now = self._clock()
            self._log.renew(self.number, {**self._claim, "heartbeat": now, "expires": now + self._seconds})
            self._renewed = now

    def publish(self, content: Mapping[str, Any]) -> None:
        """Add a tick to the log, which also ends the lease.

        Raises:
            BusyError: another process has taken over, or (where adding is not one atomic step, see `Store`) might have.
        """
        with self._writing:
            late = not self._log.store.is_local and self._clock() > self._renewed + self._seconds
            if self._is_lost or late or not self._log.add(self.number + 1, "tick", {**content, "claim": self._claim}):
                self._is_lost = True
                raise BusyError(self._lost())
            self._is_lost = True

    def release(self) -> None:
        """Let another process begin at once; does nothing after `publish` or a loss."""
        with self._writing, suppress(RunDirectoryError):  # a claim that cannot be released runs out
            if not self._is_lost and not self._log.has(self.number + 1):
                self._log.renew(self.number, {**self._claim, "heartbeat": self._clock(), "expires": 0.0})
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
    log: TickLog, tick: str, seconds: float, submission_id: str | None, clock: Callable[[], float] = time.time
) -> Lease:
    """Claim the right to work on the log's state directory.

    Args:
        log: The log.
        tick: What for.
        seconds: How long without a renewal until the claim runs out.
        submission_id: Of the Ray job that this process is, if it is one.
        clock: Seconds since 1970.

    Raises:
        BusyError: a live process holds it (says which).
        RunDirectoryError: the state directory cannot be read or written.
    """
    last = log.last()
    now = clock()
    if last is not None and _is_live(last, now):
        raise BusyError(_describe(last, now, log.store.location))
    number = 0 if last is None else last.number + 1
    claim = {
        "tick": tick,
        "owner": secrets.token_hex(16),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "submission_id": submission_id,
        "since": now,
    }
    if not log.add(number, "claim", {**claim, "heartbeat": now, "expires": now + seconds}):
        raise BusyError(f"another tick began at the same moment in {log.store.location}; try again later")
    return Lease(log, number, claim, seconds, clock)


def acquire_within(wait_s: float, notify: Callable[[str], None], *claim: Any) -> Lease:
    """Claim as `acquire` does, after waiting for up to `wait_s` seconds while another process is at work.

    Args:
        wait_s: Seconds; 0 for one attempt.
        notify: Told once whom it waits for.
        claim: The arguments of `acquire`.
    """
    deadline = time.monotonic() + wait_s
    is_told = False
    while True:
        try:
            return acquire(*claim)
        except BusyError as busy:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if not is_told:
                notify(f"waiting for up to {left:.0f} s: {busy}")
            is_told = True
            time.sleep(min(left, _LOOK_EVERY_S))


def _is_live(entry: Entry, now: float) -> bool:
    return entry.kind == "claim" and now < float(entry.content["expires"])


def _describe(entry: Entry, now: float, location: str) -> str:
    claim = entry.content
    job = "" if claim["submission_id"] is None else f", Ray job {claim['submission_id']}"
    return (
        f"tick {claim['tick']} is at work in {location} (process {claim['pid']} on {claim['host']}{job}; last sign of "
        f"life {max(0.0, now - claim['heartbeat']):.0f} s ago, taken for dead in {claim['expires'] - now:.0f} s): "
        "try again later"
    )
