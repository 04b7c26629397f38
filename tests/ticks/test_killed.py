"""Ticks that are killed, doubled and raced: the state ends up as if nothing had happened."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import BusyError
from ray_itl.ticks.log import StateStore
from ray_itl.ticks.tick import Tick, run_tick
from tests.ticks.helpers import BUSY, DEAD, Growing, count_operations, dense_ticks, exit_code, in_process

_LEASE_S = 20
"""Longer than a tick takes, so that the count of its file operations does not depend on how often it renews."""
_VARYING = {"time", "seconds", "path", "submission_id"}


def settings_of(growing: Growing, tick: str, n: int = 12) -> CurationSettings:
    return growing.settings(tick, n=n, state={"candidates": "all", "lease_s": _LEASE_S})


def finish(settings: CurationSettings) -> Tick:
    """Run a tick as a scheduler that tries again when told to."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return run_tick(settings)
        except BusyError:
            assert time.monotonic() < deadline, "a dead tick's lease never runs out"
            time.sleep(0.05)


def lasting(growing: Growing) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """What a state says that must not depend on crashes: its picks, and its history less times and folders."""
    history = [{key: value for key, value in row.items() if key not in _VARYING} for row in growing.history()]
    return history, growing.all_picks()


def undisturbed(folder: Path) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Two ticks without a crash."""
    growing = Growing(folder)
    for part in (0, 1):
        growing.grow(part)
        run_tick(settings_of(growing, f"t{part}"))
    return lasting(growing)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("num_kills", [6, pytest.param(None, marks=pytest.mark.slow)])
def test_a_tick_killed_at_any_moment_ends_as_if_it_had_not_been(tmp_path: Path, num_kills: int | None) -> None:
    """At some of its file operations, drawn from a seed; the slow case: at every one of them."""
    expected = undisturbed(tmp_path / "expected")
    before = Growing(tmp_path / "before")
    before.grow(0)
    run_tick(settings_of(before, "t0"))
    before.grow(1)
    count = count_operations(settings_of(before.copy(tmp_path / "counted"), "t1"))
    assert count > 80, "the moments to kill at are not seen"
    moments = np.random.default_rng(0).permutation(count)[:num_kills] + 1
    died = 0
    for moment in moments.tolist():
        growing = before.copy(tmp_path / str(moment))
        died += exit_code(in_process(settings_of(growing, "t1"), kill_at=moment)) == DEAD
        finish(settings_of(growing, "t1"))
        assert lasting(growing) == expected, f"killed at file operation {moment} of {count}"
        assert len(StateStore(growing.location).names("ticks")) == 2, f"killed at file operation {moment} left a folder"
    assert died >= 0.95 * len(moments)


def test_killed_twice_it_still_ends_the_same(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "expected")
    growing = Growing(tmp_path / "killed")
    growing.grow(0)
    run_tick(settings_of(growing, "t0"))
    growing.grow(1)
    for moment in (40, 70):
        assert exit_code(in_process(settings_of(growing, "t1"), kill_at=moment)) == DEAD
    finish(settings_of(growing, "t1"))
    assert lasting(growing) == expected


@pytest.mark.parametrize("same_name", [True, False], ids=["one tick", "two ticks"])
def test_of_processes_that_start_at_once_one_works(tmp_path: Path, same_name: bool) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    names = ["t", "t", "t"] if same_name else ["t0", "t1", "t2"]
    processes = [in_process(growing.settings(name, n=12, state={"candidates": "all"})) for name in names]
    codes = [exit_code(process) for process in processes]
    assert set(codes) <= {0, BUSY}
    picks = growing.all_picks()
    # One that came too late found the tick published, or (by another name) went on from there.
    assert len(picks) == (1 if same_name else codes.count(0))
    assert picks == dense_ticks(growing, [[0], [], []][: len(picks)], 12, "all")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("nights", [7, pytest.param(30, marks=pytest.mark.slow)])
def test_nights_over_a_growing_pool(tmp_path: Path, nights: int) -> None:
    """A tick a night, two of them killed and tried again, one started twice."""
    growing, parts = Growing(tmp_path), [[night] for night in range(nights)]
    for night in range(nights):
        growing.grow(night)
        settings = growing.settings(f"2026-01-{night + 1:02d}", n=5, state={"lease_s": _LEASE_S})
        if night in (nights // 3, nights * 2 // 3):
            assert exit_code(in_process(settings, kill_at=50 + night)) == DEAD
        finish(settings)
        if night == nights // 2:
            assert not finish(settings).is_new
    history = growing.history()
    assert [row["tick"] for row in history] == [f"2026-01-{night:02d}" for night in range(1, nights + 1)]
    assert [(row["new_files"], row["new_rows"], row["picks"]) for row in history] == [(1, 60, 5)] * nights
    assert [row["cumulative_picks"] for row in history] == list(range(5, 5 * nights + 5, 5))
    assert growing.all_picks() == dense_ticks(growing, parts, 5, "new")
    left = [history[0]["uncertainty_before"], *(row["uncertainty_left"] for row in history)]
    assert left[0] == pytest.approx(1)
    assert all(after < before for before, after in pairwise(left))
    assert [row["uncertainty_before"] for row in history] == pytest.approx(left[:-1])
