"""Ticks over a growing pool pick what the dense reference picks given all earlier picks, once, and say so."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_itl.api import select
from ray_itl.core.result import Stop as SelectionStop
from ray_itl.curation.run import curate
from ray_itl.curation.state_settings import StateSettings
from ray_itl.curation.summary import WHY_STOPPED, why_stopped
from ray_itl.errors import BusyError, ConfigError, InputError, RunDirectoryError
from ray_itl.observability.reporter import Reporter
from ray_itl.ticks.history import Stop
from ray_itl.ticks.lease import Lease, acquire
from ray_itl.ticks.log import StateStore, TickLog
from ray_itl.ticks.state import State
from ray_itl.ticks.tick import run_tick, summarise_tick
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.helpers import DIM, clustered, table_of
from tests.ticks.helpers import Growing, dense_ticks, seize


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    return Growing(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("candidates", ["new", "all"])
@pytest.mark.parametrize("place", ["local", "memory"])
def test_ticks_pick_what_the_reference_picks_given_earlier_picks(
    tmp_path: Path, place: str, candidates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_itl.ticks.log.SETTLE_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    location = None if place == "local" else f"fsspec+memory://{tmp_path.name}-{candidates}"
    growing = Growing(tmp_path, location)
    parts = [[0], [1], [2, 3], [], [4]]
    for number, new in enumerate(parts):
        growing.grow(*new)
        growing.tick(f"t{number}", n=7, state={"candidates": candidates})
    picks = growing.all_picks()
    assert picks == dense_ticks(growing, parts, 7, candidates)
    assert len({row for tick in picks for row in tick}) == (28 if candidates == "new" else 35)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ticks_over_a_pool_that_stays_are_one_selection_in_parts(growing: Growing, dtype: str) -> None:
    """Also at half precision: what is known of a pick is what the shards held of it."""
    growing.grow(0, 1, 2)
    changes: Any = {"pool": {"dtype": dtype, "features": "unit_norm"}}
    for number in range(4):
        growing.tick(f"t{number}", n=6, state={"candidates": "all"}, **changes)
    whole = replace(growing.settings(None, n=24, **changes), state=StateSettings())
    selection = curate(whole)
    records, curve = growing.records(), selection.remaining_uncertainty
    assert list(chain(*growing.all_picks())) == selection.ids
    assert [record.gain for record in records] == pytest.approx(selection.gains.reshape(4, 6).sum(axis=1))
    assert [record.uncertainty_left for record in records] == pytest.approx(curve[6::6])
    assert [record.uncertainty_before for record in records] == pytest.approx(curve[:-1:6])
    assert [record.cumulative_picks for record in records] == [6, 12, 18, 24]


@pytest.mark.parametrize("candidates", ["new", "all"])
def test_a_tick_ends_where_no_more_is_worth_it(growing: Growing, candidates: str) -> None:
    parts = [[0], [1], [2]]
    growing.grow(0)
    growing.tick("t0", n=20, state={"candidates": candidates}, selection={"min_gain": 0.1})
    for number in (1, 2):
        growing.grow(number)
        growing.tick(f"t{number}", n=20, state={"candidates": candidates}, selection={"min_gain": 0.1})
    assert growing.all_picks() == dense_ticks(growing, parts, 20, candidates, min_gain=0.1)
    first = growing.records()[0]
    assert 0 < first.picks < 20
    assert first.stop == "min_gain"
    assert first.next_gain is not None
    assert first.next_gain < 0.1


def test_nothing_worth_adding_is_a_success_of_three_kinds(growing: Growing) -> None:
    growing.grow(0)
    growing.tick("t0", n=60)
    nothing_new = growing.tick("t1")
    no_rows_left = growing.tick("t2", state={"candidates": "all"})
    growing.grow(1)
    not_worth_it = growing.tick("t3", selection={"min_gain": 10.0})
    ticks = (nothing_new, no_rows_left, not_worth_it)
    assert [tick.record.stop for tick in ticks] == ["nothing_new", "no_rows", "min_gain"]
    assert all(tick.is_new and tick.record.picks == 0 and tick.record.gain == 0 for tick in ticks)
    assert all("nothing worth adding" in summarise_tick(tick).text for tick in ticks)
    assert "less than selection.min_gain" in summarise_tick(not_worth_it).text
    empty = pq.read_table(growing.folder / "state" / nothing_new.record.path / "selection.parquet")
    assert (
        empty.schema == pq.read_table(growing.folder / "state" / growing.records()[0].path / "selection.parquet").schema
    )
    growing.tick("t4")
    assert growing.records()[-1].stop == "nothing_new", "what was not worth it was considered all the same"


def test_a_tick_that_ends_by_share_says_so(growing: Growing) -> None:
    growing.grow(0)
    tick = growing.tick("t0", n=50, selection={"share": 0.2})
    assert (tick.record.stop, tick.record.picks < 50) == ("share", True)
    assert "selection.share" in summarise_tick(tick).text


def test_no_reason_to_stop_lacks_words() -> None:
    assert set(WHY_STOPPED) == {*get_args(Stop), *get_args(SelectionStop)}


@pytest.mark.parametrize("stop", get_args(Stop))
def test_every_reason_to_stop_is_told(growing: Growing, stop: Stop) -> None:
    growing.grow(0)
    tick = growing.tick("t0", n=1)
    told = summarise_tick(replace(tick, record=replace(tick.record, stop=stop, next_gain=0.5)))
    assert told.headline.endswith(f": {why_stopped(stop, 0.5, 'nats')}")


def test_all_rows_are_picked_where_fewer_than_asked_for_are_left(growing: Growing) -> None:
    growing.grow(0)
    record = growing.tick("t0", n=500).record
    assert (record.picks, record.stop) == (60, "no_rows")


def test_a_tick_of_the_same_name_changes_nothing(growing: Growing) -> None:
    growing.grow(0)
    first = growing.tick("2026-01-31", state={"candidates": "all"})
    growing.grow(1)
    before = contents(growing.folder / "state")
    again = growing.tick("2026-01-31", n=9, state={"candidates": "all"})
    assert (again.is_new, again.record) == (False, first.record)
    assert contents(growing.folder / "state") == before
    assert "published already" in summarise_tick(again).text


@pytest.mark.parametrize("lost", ["ticks.parquet", "ticks.html"])
def test_a_tick_of_the_same_name_completes_the_history(growing: Growing, lost: str) -> None:
    """A crash between publication and history leaves the one without the other."""
    growing.grow(0)
    growing.tick("t0")
    before = contents(growing.folder / "state")
    (growing.folder / "state" / lost).unlink()
    (growing.folder / "state" / "ticks.parquet").unlink(missing_ok=True)
    growing.tick("t0")
    assert contents(growing.folder / "state") == before


def test_names_by_date_and_by_number(growing: Growing) -> None:
    growing.grow(0)
    settings = growing.settings(None)
    at = datetime(2026, 1, 31, 23, 59, tzinfo=UTC).timestamp()
    assert run_tick(settings, clock=lambda: at).record.tick == "2026-01-31"
    assert not run_tick(settings, clock=lambda: at + 59).is_new
    assert run_tick(settings, clock=lambda: at + 60).record.tick == "2026-02-01"
    growing.tick("000004")
    growing.tick("next")
    growing.tick("next")
    assert [record.tick for record in growing.records()][2:] == ["000004", "000005", "000006"]


def test_the_history_has_a_row_for_each_tick(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    context = {"metadata": {"job_submission_id": "raysubmit_1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(context))
    growing.grow(0)
    growing.tick("a")
    growing.grow(1, 2)
    growing.tick("b", n=4)
    first, second = growing.history()
    assert (first["tick"], first["new_files"], first["new_rows"], first["picks"]) == ("a", 1, 60, 5)
    assert (second["new_files"], second["new_rows"], second["picks"], second["cumulative_picks"]) == (2, 120, 4, 9)
    assert (second["stop"], second["unit"], second["submission_id"]) == ("n", "nats", "raysubmit_1")
    assert second["time"] > first["time"]
    assert second["uncertainty_before"] == pytest.approx(first["uncertainty_left"])
    table = pq.read_table(growing.folder / "state" / second["path"] / "selection.parquet")
    assert second["gain"] == pytest.approx(table.column("gain").to_numpy().sum())
    assert set(table.column("file").to_pylist()) <= {"part-01.parquet", "part-02.parquet"}
    page = (growing.folder / "state" / "ticks.html").read_text()
    assert "9 rows picked in 2 ticks" in page
    status = json.loads((growing.folder / "state" / "status.json").read_text())
    assert (status["state"], status["tick"], status["picks"]) == ("finished", "b", 4)
    assert not (growing.folder / "state" / "staging").exists()


def test_files_that_moved_are_not_new_and_lost_ones_are_refused(growing: Growing) -> None:
    growing.grow(0, 1)
    growing.tick("t0", n=8)
    (growing.pool / "sub").mkdir()
    (growing.pool / "part-00.parquet").rename(growing.pool / "sub" / "renamed.parquet")
    assert growing.tick("t1").record.new_files == 0
    (growing.pool / "part-01.parquet").unlink()
    with pytest.raises(InputError, match=r"vanished: part-01\.parquet"):
        growing.tick("t2")
    assert [record.tick for record in growing.records()] == ["t0", "t1"]
    growing.grow(2)
    assert growing.tick("t2", state={"on_changed": "as_seen"}).record.new_files == 1
    assert growing.tick("t3").record.stop == "nothing_new"


@pytest.mark.parametrize("text_ids", [False, True], ids=["int", "text"])
def test_a_rewritten_file_offers_its_rows_again_but_not_those_picked(tmp_path: Path, text_ids: bool) -> None:
    growing = Growing(tmp_path, text_ids=text_ids)
    growing.grow(0)
    growing.tick("t0", n=10)
    table = pq.read_table(growing.pool / "part-00.parquet")
    pq.write_table(table, growing.pool / "part-00.parquet", row_group_size=7)
    with pytest.raises(InputError, match=r"changed: part-00\.parquet"):
        growing.tick("t1", n=60)
    record = growing.tick("t1", n=60, state={"on_changed": "as_new"}).record
    assert (record.new_rows, record.candidate_rows, record.picks) == (60, 50, 50)
    assert len({row for tick in growing.all_picks() for row in tick}) == 60


CHANGES: dict[str, Any] = {
    "acquisition.noise_variance": {"acquisition": {"noise_variance": 0.5}},
    "acquisition.name": {"acquisition": {"name": "vtl"}},
    "pool.features": {"pool": {"features": "unit_norm"}},
    "pool.dtype": {"pool": {"dtype": "float16"}},
    "known rows": {"known": {"path": "target.parquet"}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_options_that_decide_what_is_known_may_not_change(growing: Growing, name: str) -> None:
    growing.grow(0)
    growing.tick("t0")
    changes: Any = CHANGES[name]
    if "known" in changes:
        changes = {"known": {"path": str(growing.target)}}
    with pytest.raises(ConfigError, match=rf"changed: {name}[,)]"):
        growing.tick("t1", **changes)
    growing.tick("t1", n=3, selection={"min_gain": 1e-9}, pool={"columns": ["text"]})
    assert [record.picks for record in growing.records()] == [5, 0]


def test_what_a_tick_may_pick_may_change(growing: Growing) -> None:
    growing.grow(0)
    growing.tick("t0", selection={"cost_column": "weight", "budget": 4.0})
    growing.grow(1)
    growing.tick("t1", pool={"filter": "id = 1007 or id = 2000"}, selection={"share": 0.5, "near_target": "ignore"})
    nothing_meets_it = growing.tick("t2", pool={"filter": "id = 7"})
    growing.grow(2)
    growing.tick("t3", pool={"filter": "id = 7"}, state={"candidates": "all"})
    assert 0 < growing.records()[0].picks <= 4
    assert growing.all_picks()[1:] == [[1007], [], [7]]
    assert nothing_meets_it.record.stop == "nothing_new"
    growing.grow(3)
    only_old_rows_meet_it = growing.tick("t4", pool={"filter": "id < 2000"})
    assert (only_old_rows_meet_it.record.new_rows, only_old_rows_meet_it.record.picks) == (60, 0)
    assert only_old_rows_meet_it.record.stop == "no_rows"


def test_another_target_is_refused_unless_it_is_meant(growing: Growing) -> None:
    growing.grow(0)
    growing.tick("t0")
    pq.write_table(table_of(clustered(6, seed=77)), growing.target)
    growing.grow(1)
    with pytest.raises(ConfigError, match=r"state\.on_new_target=accept"):
        growing.tick("t1")
    record = growing.tick("t1", state={"on_new_target": "accept"}).record
    assert 0 < record.uncertainty_left < record.uncertainty_before < 1
    assert growing.tick("t2").record.stop == "nothing_new"


def test_bad_rows_publish_nothing_and_the_mended_pool_gets_the_same_tick(growing: Growing) -> None:
    growing.grow(0)
    growing.tick("t0")
    rows = clustered(60, seed=1)
    rows[3, 1] = np.nan
    pq.write_table(table_of(rows, first_id=5000), growing.pool / "part-05.parquet")
    with pytest.raises(InputError, match=r"part-05\.parquet.*row 3"):
        growing.tick("t1")
    assert json.loads((growing.folder / "state" / "status.json").read_text())["state"] == "failed"
    (growing.pool / "part-05.parquet").unlink()
    growing.grow(1)
    assert growing.tick("t1").is_new
    assert growing.all_picks() == dense_ticks(growing, [[0], [1]], 5, "new")


def test_beside_a_live_tick_it_refuses_and_after_a_dead_one_it_takes_over(growing: Growing) -> None:
    growing.grow(0)
    log = TickLog(StateStore(growing.location))
    acquire(log, "t0", 60, "raysubmit_9")
    before = contents(growing.folder / "state")
    with pytest.raises(BusyError, match=r"tick t0 is at work.*raysubmit_9"):
        growing.tick("t1")
    assert contents(growing.folder / "state") == before
    settings = growing.settings("t1")
    seize(growing.location).release()
    assert run_tick(settings).is_new


def test_it_waits_for_another_tick_to_end_where_asked_to(growing: Growing, monkeypatch: pytest.MonkeyPatch) -> None:
    growing.grow(0)
    said: list[str] = []
    reporter = Reporter()
    lease = acquire(TickLog(StateStore(growing.location)), "t0", 60, "raysubmit_9")

    def say(line: str) -> None:
        said.append(line)
        lease.release()

    monkeypatch.setattr(reporter, "info", say)
    assert growing.tick("t1", reporter=reporter, state={"wait_s": 60}).is_new
    (line,) = [line for line in said if line.startswith("waiting for up to 60 s: tick t0 is at work")]
    assert "raysubmit_9" in line


def test_it_does_not_wait_for_longer_than_asked_to(growing: Growing) -> None:
    growing.grow(0)
    acquire(TickLog(StateStore(growing.location)), "t0", 60, None)
    began = time.monotonic()
    with pytest.raises(BusyError):
        growing.tick("t1", state={"wait_s": 0.5})
    assert 0.5 <= time.monotonic() - began < 30


def test_the_status_says_finished_where_storage_erred_just_as_it_was_told(
    growing: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = StateStore.write, [RunDirectoryError("cannot write status.json: try again")]

    def flaky(store: StateStore, name: str, content: bytes) -> None:
        if name == "status.json" and b'"finished"' in content and failures:
            raise failures.pop()
        write(store, name, content)

    monkeypatch.setattr(StateStore, "write", flaky)
    growing.grow(0)
    growing.tick("a")
    assert not failures
    assert json.loads((growing.folder / "state" / "status.json").read_text())["state"] == "finished"


def test_the_status_says_finished_also_where_the_process_died_after_publishing(growing: Growing) -> None:
    growing.grow(0)
    record = growing.tick("t0").record
    store = StateStore(growing.location)
    finished = json.loads(store.read("status.json") or b"")
    for state, tick in (("running", "t0"), ("failed", "t0"), ("running", "t1")):
        store.write("status.json", json.dumps({"state": state, "tick": tick}).encode())
        assert not growing.tick("t0").is_new
        told = json.loads(store.read("status.json") or b"")
        assert told["state"] == ("finished" if tick == "t0" else state)
        assert told.get("path") == (record.path if tick == "t0" else None)
        assert set(told) <= set(finished)


@pytest.mark.usefixtures("small_blocks")
def test_a_tick_that_lost_its_lease_stops_and_does_not_publish(
    growing: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds out in mid-selection from its heart beat, or at the latest when it publishes."""
    growing.grow(0)
    log = TickLog(StateStore(growing.location))
    monkeypatch.setattr(
        "ray_itl.ticks.tick.write_parquet_table",
        lambda *_: seize(growing.location).publish({"record": {}, "identity": {}}),
    )
    with pytest.raises(BusyError, match="tick t0 was taken for dead"):
        growing.tick("t0")
    (entry,) = log.ticks()
    assert entry.content["record"] == {}


@pytest.mark.usefixtures("small_blocks")
def test_a_selection_ends_at_the_block_after_its_lease_was_lost(
    growing: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing.grow(0)
    counts, renewed = [], threading.Semaphore(0)
    renew = Lease.renew

    def renew_and_tell(lease: Lease) -> None:
        renew(lease)
        renewed.release()

    def note(_: State, facts: Mapping[str, Any]) -> None:
        counts.append(facts.get("num_picked", 0))
        if counts[-1] == 4:
            seize(growing.location)
            while renewed.acquire(blocking=False):
                pass
            assert all(renewed.acquire(timeout=60) for _ in range(2))  # the first may have looked before

    monkeypatch.setattr(State, "set_status", note)
    monkeypatch.setattr(Lease, "renew", renew_and_tell)
    with pytest.raises(BusyError):
        growing.tick("t0", n=40, state={"lease_s": 0.4})
    assert max(counts) < 40
    assert growing.records() == []


def test_what_a_dead_tick_left_half_published_is_cleared(growing: Growing) -> None:
    growing.grow(0)
    growing.tick("t0")
    StateStore(growing.location).write("ticks/t1-00000002/selection.parquet", b"half")
    growing.grow(1)
    growing.tick("t1")
    assert StateStore(growing.location).names("ticks") == sorted(
        r.path.removeprefix("ticks/") for r in growing.records()
    )


def test_a_state_that_lost_a_file_names_it(growing: Growing) -> None:
    growing.grow(0)
    path = growing.tick("t0").record.path
    (growing.folder / "state" / path / "picks.safetensors").unlink()
    with pytest.raises(RunDirectoryError, match=rf"{path}/picks\.safetensors is missing"):
        growing.tick("t1")
    (growing.folder / "state" / path / "picks.safetensors").write_bytes(b"1234567890")
    with pytest.raises(RunDirectoryError, match=rf"{path}/picks\.safetensors .* is damaged"):
        growing.tick("t1")


def test_nearest_goes_on_where_the_last_tick_ended(growing: Growing) -> None:
    """Three ticks pick what one selection does: earlier picks are passed over, and targets keep their turns."""
    growing.grow(0)
    for number in range(3):
        growing.tick(f"t{number}", n=3, state={"candidates": "all"}, acquisition={"name": "nearest"})
    at_once = select(str(growing.pool), str(growing.target), 9, acquisition="nearest", noise_variance=0.1)
    assert list(chain(*growing.all_picks())) == at_once.ids


def test_features_of_another_dimension_are_refused(growing: Growing) -> None:
    growing.grow(0)
    growing.tick("t0")
    (growing.pool / "part-00.parquet").unlink()
    rows = np.random.default_rng(0).standard_normal((30, DIM + 1)).astype(np.float32)
    pq.write_table(table_of(rows), growing.pool / "part-00.parquet")
    pq.write_table(table_of(rows[:4]), growing.target)
    with pytest.raises(ConfigError, match="kind of pool rows"):
        growing.tick("t1", state={"on_changed": "as_new"})


@pytest.mark.parametrize("candidates", ["new", "all"])
def test_a_tick_can_be_checked_like_any_run_also_once_the_pool_has_grown(growing: Growing, candidates: str) -> None:
    for number, least in enumerate([0.0, 0.05, 0.0, 10.0]):
        growing.grow(number)
        options: Any = {"state": {"candidates": candidates}, "selection": {"min_gain": least}}
        growing.tick(f"t{number}", n=12, **options)
    growing.tick("t4", selection={"cost_column": "weight", "budget": 6.0, "min_distance": 0.05})
    for record in growing.records():
        run = growing.folder / "state" / record.path
        found = verify(VerifySettings(FinishedRun(str(run))))
        assert found.right, found.summary().text
        assert found.num_picks == record.picks
    record = growing.records()[1]
    run = growing.folder / "state" / record.path
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 < record.picks < 12
    for wrong, words in ((metrics["next_gain"] / 2, "adds"), (0.3, "ended for min_gain=0.05")):
        (run / "metrics.json").write_text(json.dumps({**metrics, "next_gain": wrong}))
        assert any(words in text for text in verify(VerifySettings(FinishedRun(str(run)))).contradictions)


@pytest.mark.parametrize("trick", ["link", "open to all"])
def test_unfinished_ticks_are_not_kept_where_others_can_write(
    tmp_path: Path, trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    state = State(f"fsspec+memory://{tmp_path.name}")
    folder = state.staging(None)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert state.staging(None) == folder
    if trick == "link":
        folder.rmdir()
        folder.symlink_to(tmp_path)
    else:
        folder.chmod(0o777)
    with pytest.raises(RunDirectoryError, match=r"set run\.dir to a folder of your own"):
        state.staging(None)


def test_a_log_that_points_elsewhere_is_refused(growing: Growing) -> None:
    growing.grow(0)
    growing.tick("t0")
    entry = growing.folder / "state" / "log" / "00000001.json"
    entry.write_text(entry.read_text().replace('"ticks/t0-00000000"', '"../../etc"'))
    with pytest.raises(RunDirectoryError, match="not a name within"):
        growing.tick("t1")


def test_the_same_tick_again_clears_what_its_process_left(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    growing.tick("a")
    state = tmp_path / "state"
    staged = state / "staging" / "a-0123456789ab"
    staged.mkdir(parents=True)
    (staged / "selection.parquet").touch()
    others = [state / "staging" / name for name in ("b-0123456789ab", "a-b-0123456789ab", "a-notes")]
    for other in others:
        other.mkdir()
    old, new = state / ".ticks.parquet.0123abcd.tmp", state / ".ticks.html.0123abcd.tmp"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    assert not growing.tick("a").is_new
    assert not staged.exists()
    assert not old.exists()
    assert all(path.exists() for path in [*others, new])  # another process may be at these
