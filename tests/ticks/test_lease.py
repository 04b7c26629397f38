"""One process at a time works on a state, a dead one is succeeded, and one that lost its lease publishes nothing."""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ray_itl.errors import BusyError, RunDirectoryError
from ray_itl.ticks.lease import Lease, acquire
from ray_itl.ticks.log import StateStore, TickLog
from tests.ticks.helpers import FakeClocks, seize


@pytest.fixture(params=["local", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("ray_itl.ticks.log.SETTLE_S", 0.0)
    return str(tmp_path) if request.param == "local" else f"fsspec+memory://{tmp_path.name}-lease"


def open_log(location: str) -> TickLog:
    return TickLog(StateStore(location))


def names(location: str) -> list[str]:
    return [entry.content["name"] for entry in open_log(location).ticks()]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds a lease is on another machine: whether it lives cannot be looked up."""
    monkeypatch.setattr("ray_itl.ticks.lease.has_ended", lambda _: False)


def claim(location: str, tick: str, clock: FakeClocks, wait_s: float = 0.0, seconds: float = 60) -> Lease:
    return acquire(open_log(location), tick, seconds, None, wait_s, clocks=clock.clocks())


def test_a_second_process_is_refused_and_told_who_works(location: str) -> None:
    clock = FakeClocks()
    acquire(open_log(location), "monday", 60, "raysubmit_7", clocks=clock.clocks())
    clock.pass_by(59)
    with pytest.raises(
        BusyError, match=r"tick monday is at work.*Ray job raysubmit_7.*59 s ago.*none for 60 s"
    ) as caught:
        claim(location, "tuesday", clock)
    assert "\n" not in str(caught.value)
    assert not clock.naps


def test_a_renewed_lease_lives_on(location: str) -> None:
    clock = FakeClocks()
    lease = claim(location, "monday", clock)
    clock.pass_by(59)
    lease.renew()
    clock.pass_by(59)
    with pytest.raises(BusyError):
        claim(location, "tuesday", clock)


@pytest.mark.parametrize("ending", ["published", "released", "expired"])
def test_after_it_ended_the_next_may_begin(location: str, ending: str) -> None:
    clock = FakeClocks()
    lease = claim(location, "monday", clock)
    if ending == "published":
        lease.publish({"name": "monday"})
    elif ending == "released":
        lease.release()
    else:
        clock.pass_by(60)
    following = claim(location, "tuesday", clock)
    assert sum(clock.naps) == pytest.approx(60 if ending == "expired" else 0)
    following.publish({"name": "tuesday"})
    assert names(location) == (["monday", "tuesday"] if ending == "published" else ["tuesday"])


HOURS = 3600.0


@pytest.mark.parametrize("ahead", [-30 * HOURS, -5 * HOURS, -61, -59, -1, 1, 59, 61, 5 * HOURS, 30 * HOURS])
def test_a_live_lease_is_kept_however_clocks_disagree(location: str, ahead: float) -> None:
    """The other machine's time of day is off by hours; every nap of its, the owner renews in time."""
    owner, other = FakeClocks(), FakeClocks(day=1000.0 + ahead)
    lease = claim(location, "monday", owner)

    def nap(seconds: float) -> None:
        owner.pass_by(seconds)
        other.pass_by(seconds)
        if owner.steady - renewed[-1] >= 15:
            renewed.append(owner.steady)
            lease.renew()

    renewed = [owner.steady]
    other.sleep = nap  # type: ignore[method-assign]
    for wait_s in (0, 500):
        with pytest.raises(BusyError, match="monday is at work"):
            claim(location, "tuesday", other, wait_s)
    lease.publish({"name": "monday"})
    assert names(location) == ["monday"]


@pytest.mark.parametrize("ahead", [-30 * HOURS, -61, -30, 0, 61, 30 * HOURS])
@pytest.mark.parametrize("wait_s", [0, 200])
def test_a_dead_lease_is_succeeded_however_clocks_disagree(location: str, ahead: float, wait_s: float) -> None:
    """Tries that do not wait may be refused for as long as a lease lasts; no try takes over early."""
    claim(location, "monday", FakeClocks())
    other = FakeClocks(day=1000.0 + ahead)
    began = other.steady
    while True:
        try:
            claim(location, "tuesday", other, wait_s).publish({"name": "tuesday"})
            break
        except BusyError:
            other.pass_by(10)
    assert 60 <= other.steady - began <= 190
    assert names(location) == ["tuesday"]


def test_clocks_that_jump_back_and_forth_decide_nothing(location: str) -> None:
    owner, other = FakeClocks(), FakeClocks()
    lease = claim(location, "monday", owner)
    for jump in (5 * HOURS, -9 * HOURS, 1.0, -0.5, 4 * HOURS):
        owner.day += jump
        owner.pass_by(15)
        other.pass_by(15)
        lease.renew()
        other.day -= jump
        lease.check()
    assert open_log(location).last() is not None
    lease.publish({"name": "monday"})
    assert names(location) == ["monday"]


def test_beats_differ_where_the_time_of_day_stands_still(location: str) -> None:
    clock = FakeClocks()
    lease = claim(location, "monday", clock)
    before = open_log(location).last()
    lease.renew()
    assert open_log(location).last() != before


def test_a_process_of_this_machine_that_ended_is_succeeded_at_once(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClocks()
    claim(location, "monday", clock)
    monkeypatch.setattr("ray_itl.ticks.lease.has_ended", lambda process: process["pid"] == os.getpid())
    claim(location, "tuesday", clock)
    assert not clock.naps


def test_a_claim_of_an_older_version_is_watched_as_well(location: str) -> None:
    log = open_log(location)
    old = {"tick": "monday", "owner": "ab", "host": "far", "pid": 7, "submission_id": None, "since": 940.0}
    log.add(0, "claim", {**old, "heartbeat": 1000.0, "expires": 1060.0})
    clock = FakeClocks()
    with pytest.raises(BusyError, match="process 7 on far"):
        claim(location, "tuesday", clock)
    claim(location, "tuesday", clock, wait_s=100)
    assert sum(clock.naps) == pytest.approx(60)


def test_an_older_version_understands_what_is_written_now(location: str) -> None:
    lease = claim(location, "monday", FakeClocks())
    entry = open_log(location).last()
    assert entry is not None
    assert {"tick", "owner", "host", "pid", "submission_id", "since"} <= set(entry.content)
    assert entry.content["expires"] - entry.content["heartbeat"] == 60
    lease.release()
    entry = open_log(location).last()
    assert entry is not None
    assert entry.content["expires"] == 0


def test_one_that_was_taken_for_dead_notices_and_cannot_publish(location: str) -> None:
    clock = FakeClocks()
    dead = claim(location, "monday", clock)
    clock.pass_by(61)
    heir = claim(location, "tuesday", clock)
    dead.check()  # it has not looked since
    with pytest.raises(BusyError, match="tick monday was taken for dead"):
        dead.publish({"name": "monday"})
    dead.renew()
    with pytest.raises(BusyError):
        dead.check()
    dead.release()
    with pytest.raises(BusyError, match="tuesday is at work"):
        claim(location, "wednesday", clock)
    heir.publish({"name": "tuesday"})
    assert names(location) == ["tuesday"]


def test_waking_up_after_the_heir_published_changes_nothing(location: str) -> None:
    clock = FakeClocks()
    dead = claim(location, "monday", clock)
    clock.pass_by(61)
    claim(location, "monday", clock).publish({"name": "monday"})
    dead.renew()
    with pytest.raises(BusyError):
        dead.publish({"name": "monday"})
    assert names(location) == ["monday"]


@pytest.mark.parametrize("slept", [True, False], ids=["asleep", "awake"])
def test_late_but_not_succeeded_it_publishes_where_that_is_one_step_only(location: str, slept: bool) -> None:
    clock = FakeClocks()
    lease = claim(location, "monday", clock)
    clock.day -= 9 * HOURS  # which says nothing
    if slept:
        clock.asleep += 61
    else:
        clock.pass_by(61)
    if location.startswith("fsspec"):
        with pytest.raises(BusyError):
            lease.publish({"name": "monday"})
    else:
        lease.publish({"name": "monday"})
    assert names(location) == ([] if location.startswith("fsspec") else ["monday"])


def test_a_thread_keeps_it_alive_and_the_end_releases_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location, renewed = str(tmp_path), threading.Semaphore(0)
    log = open_log(location)
    renew = log.renew

    def renew_and_tell(number: int, content: Mapping[str, Any]) -> None:
        renew(number, content)
        renewed.release()

    monkeypatch.setattr(log, "renew", renew_and_tell)
    with acquire(log, "monday", 0.4, None).kept_alive():
        before = open_log(location).last()
        assert all(renewed.acquire(timeout=60) for _ in range(2))
        assert open_log(location).last() != before
        with pytest.raises(BusyError):
            acquire(open_log(location), "tuesday", 0.4, None)
    acquire(open_log(location), "tuesday", 0.4, None)


def test_the_thread_notices_a_loss_and_survives_a_filesystem_that_errs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, tried = open_log(str(tmp_path)), threading.Semaphore(0)

    def err(*_: object) -> None:
        tried.release()
        raise RunDirectoryError("no route to host")

    lease = acquire(log, "monday", 0.2, None)
    with lease.kept_alive():
        monkeypatch.setattr(log, "renew", err)
        assert all(tried.acquire(timeout=60) for _ in range(2))
        lease.check()
        seize(str(tmp_path))
        with pytest.raises(BusyError):
            check_for(lease, 60)


def check_for(lease: Lease, seconds: float) -> None:
    """Check again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lease.check()
        time.sleep(0.01)


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    acquire(open_log(str(tmp_path)), "monday", 60, None).publish({"name": "monday"})
    (tmp_path / "log" / "00000001.json").write_text("{")
    for call in (open_log(str(tmp_path)).ticks, lambda: acquire(open_log(str(tmp_path)), "tuesday", 60, None)):
        with pytest.raises(RunDirectoryError, match=r"log/00000001\.json in .* is damaged"):
            call()
    (tmp_path / "log" / "00000001.json").write_text('{"format": 99, "kind": "tick", "content": {}}')
    with pytest.raises(RunDirectoryError, match="another version"):
        open_log(str(tmp_path)).ticks()
