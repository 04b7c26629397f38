"""One process at a time works on a state, a dead one is succeeded, and one that lost its lease publishes nothing."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ray_itl.errors import BusyError, RunDirectoryError
from ray_itl.io.lease import Lease, acquire
from ray_itl.io.store import Store
from ray_itl.io.tick_log import TickLog
from tests.processes import wait_until


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["local", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("ray_itl.io.store.SETTLE_S", 0.0)
    return str(tmp_path) if request.param == "local" else f"fsspec+memory://{tmp_path.name}-lease"


def open_log(location: str) -> TickLog:
    return TickLog(Store(location))


def names(location: str) -> list[str]:
    return [entry.content["name"] for entry in open_log(location).ticks()]


def test_a_second_process_is_refused_and_told_who_works(location: str) -> None:
    clock = Clock()
    acquire(open_log(location), "monday", 60, "raysubmit_7", clock)
    clock.now += 59
    with pytest.raises(
        BusyError, match=r"tick monday is at work.*Ray job raysubmit_7.*59 s ago.*dead in 1 s"
    ) as caught:
        acquire(open_log(location), "tuesday", 60, None, clock)
    assert "\n" not in str(caught.value)


def test_a_renewed_lease_lives_on(location: str) -> None:
    clock = Clock()
    lease = acquire(open_log(location), "monday", 60, None, clock)
    clock.now += 59
    lease.renew()
    clock.now += 59
    with pytest.raises(BusyError):
        acquire(open_log(location), "tuesday", 60, None, clock)


@pytest.mark.parametrize("ending", ["published", "released", "expired"])
def test_after_it_ended_the_next_may_begin(location: str, ending: str) -> None:
    clock = Clock()
    lease = acquire(open_log(location), "monday", 60, None, clock)
    if ending == "published":
        lease.publish({"name": "monday"})
    elif ending == "released":
        lease.release()
    else:
        clock.now += 60
    following = acquire(open_log(location), "tuesday", 60, None, clock)
    following.publish({"name": "tuesday"})
    assert names(location) == (["monday", "tuesday"] if ending == "published" else ["tuesday"])


def test_one_that_was_taken_for_dead_notices_and_cannot_publish(location: str) -> None:
    clock = Clock()
    dead = acquire(open_log(location), "monday", 60, None, clock)
    clock.now += 61
    heir = acquire(open_log(location), "tuesday", 60, None, clock)
    dead.check()  # it has not looked since
    with pytest.raises(BusyError, match="tick monday was taken for dead"):
        dead.publish({"name": "monday"})
    dead.renew()
    with pytest.raises(BusyError):
        dead.check()
    dead.release()
    with pytest.raises(BusyError, match="tuesday is at work"):
        acquire(open_log(location), "wednesday", 60, None, clock)
    heir.publish({"name": "tuesday"})
    assert names(location) == ["tuesday"]


def test_waking_up_after_the_heir_published_changes_nothing(location: str) -> None:
    clock = Clock()
    dead = acquire(open_log(location), "monday", 60, None, clock)
    clock.now += 61
    acquire(open_log(location), "monday", 60, None, clock).publish({"name": "monday"})
    dead.renew()
    with pytest.raises(BusyError):
        dead.publish({"name": "monday"})
    assert names(location) == ["monday"]


def test_late_but_not_succeeded_it_publishes_where_that_is_one_step_only(location: str) -> None:
    clock = Clock()
    lease = acquire(open_log(location), "monday", 60, None, clock)
    clock.now += 61
    if location.startswith("fsspec"):
        with pytest.raises(BusyError):
            lease.publish({"name": "monday"})
    else:
        lease.publish({"name": "monday"})
    assert names(location) == ([] if location.startswith("fsspec") else ["monday"])


def test_a_thread_keeps_it_alive_and_the_end_releases_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location, log, clock, renewed = str(tmp_path), open_log(str(tmp_path)), Clock(), threading.Semaphore(0)
    renew = log.renew
    monkeypatch.setattr(log, "renew", lambda *claim: (renew(*claim), renewed.release()))
    with acquire(log, "monday", 0.4, None, clock).kept_alive():
        for _ in range(3):
            clock.now += 0.3
            assert all(renewed.acquire(timeout=60) for _ in range(2))  # the second one knows of this time for sure
        with pytest.raises(BusyError):
            acquire(open_log(location), "tuesday", 0.4, None, clock)
    acquire(open_log(location), "tuesday", 0.4, None, clock)


def is_lost(lease: Lease) -> bool:
    with suppress(BusyError):
        lease.check()
        return False
    return True


def test_the_thread_notices_a_loss_and_survives_a_filesystem_that_errs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, calls = open_log(str(tmp_path)), []

    def err(number: int, content: object) -> None:
        calls.append((number, content))
        raise RunDirectoryError("no route to host")

    lease = acquire(log, "monday", 0.2, None)
    with lease.kept_alive():
        monkeypatch.setattr(log, "renew", err)
        time.sleep(0.4)
        lease.check()
        acquire(open_log(str(tmp_path)), "tuesday", 60, None)
        wait_until(lambda: is_lost(lease), 60)
    assert len(calls) >= 2


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    acquire(open_log(str(tmp_path)), "monday", 60, None).publish({"name": "monday"})
    (tmp_path / "log" / "00000001.json").write_text("{")
    for call in (open_log(str(tmp_path)).ticks, lambda: acquire(open_log(str(tmp_path)), "tuesday", 60, None)):
        with pytest.raises(RunDirectoryError, match=r"log/00000001\.json in .* is damaged"):
            call()
    (tmp_path / "log" / "00000001.json").write_text('{"format": 99, "kind": "tick", "content": {}}')
    with pytest.raises(RunDirectoryError, match="another version"):
        open_log(str(tmp_path)).ticks()
