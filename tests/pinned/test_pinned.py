"""What earlier code left on disk is read, resumed, replayed and verified by today's (see README.md).

Only command lines, `ray_itl.select` and the files themselves are used: how the code is laid out does not matter here.
"""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors import safe_open

from ray_itl import select
from tests.pinned import commands
from tests.pinned.commands import EXPECTED, FILES, PLACE, Command, carry_out, replay, verify

PINNED = json.loads(EXPECTED.read_text())
COMPUTED, TRAINED = 1e-9, 1e-4
"""Relative tolerances for what is computed again, and for what a model in float32 had a part in."""
OF_THE_TRY = {"time", "seconds", "pid", "host", "driver_peak_bytes", "passes", "rows_per_s", "eta_s", "owner", "config"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pinned files in another place, which is the working directory."""
    folder = tmp_path / "home"
    shutil.copytree(FILES, folder)
    for config in folder.rglob("config.yaml"):
        config.write_text(config.read_text().replace(str(PLACE), str(folder)))
    monkeypatch.chdir(folder)
    return folder


def done(command: Command) -> str:
    """Carry a command out, which must succeed; returns what it printed."""
    ended = carry_out(command)
    assert ended.code == 0, ended.err
    return ended.out + ended.err


def contents(folder: Path, *but: str) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, but for files of some names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in but]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_close(found: Any, wanted: Any, tolerance: float, where: str = "") -> None:
    """Compare nested values: floats to a relative tolerance, all else exactly; figures of the try only by name."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for name in set(wanted) - OF_THE_TRY:
            assert_close(found[name], wanted[name], tolerance, f"{where}.{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_close(one, other, tolerance, f"{where}[{place}]")
    elif isinstance(wanted, float):
        # Margins between gains, and what rounding left of zero, are as exact as the gains that they come from.
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance / 1e3), where
    else:
        assert found == wanted, where


def assert_table(path: Path, pinned: Path, tolerance: float = COMPUTED) -> None:
    """Compare a Parquet file that was made anew with a pinned one: columns, types, order and values."""
    found, wanted = pq.read_table(path), pq.read_table(pinned)
    assert found.schema.equals(wanted.schema, check_metadata=True)
    assert_close(found.to_pylist(), wanted.to_pylist(), tolerance, path.name)


def assert_tensors(path: Path, pinned: Path) -> None:
    """Compare a safetensors file that was made anew with a pinned one: names, types, values and metadata."""
    with safe_open(path, "pt") as found, safe_open(pinned, "pt") as wanted:
        assert found.metadata() == wanted.metadata()
        assert sorted(found.keys()) == sorted(wanted.keys())
        for name in wanted.keys():  # noqa: SIM118 - it is no mapping
            torch.testing.assert_close(found.get_tensor(name), wanted.get_tensor(name), rtol=COMPUTED, atol=1e-12)


def assert_picked(table: pa.Table, pinned: dict[str, list[Any]], tolerance: float = 0.0) -> None:
    """Compare picks: the same rows, and their gains and costs."""
    for name, values in pinned.items():
        assert_close(table.column(name.removesuffix("s")).to_pylist(), values, tolerance, name)


def test_the_files_are_those_that_were_written() -> None:
    found = {name: sha256(content).hexdigest() for name, content in contents(FILES).items()}
    assert found == PINNED["sha256"]


def test_a_finished_selection_is_recognised_and_left_alone(home: Path) -> None:
    before = contents(home / "selection")
    for command in (commands.SELECTION, replay("curate", "selection")):
        assert "this run is finished already" in done(command)
        assert contents(home / "selection") == before


def test_a_finished_selection_is_read_as_it_is(home: Path) -> None:
    before = contents(home)
    found = select(
        "pool", "target.parquet", 12, noise_variance=0.1, columns=["text", "kind"], explain=True,
        cost_column="tokens", budget=500.0, min_distance=0.001, quotas={"kind": {"a": {"max": 0.5}, "b": {"min": 3}}},
        run_dir="selection",
    )  # fmt: skip
    assert_picked(found.table, PINNED["selection"])
    assert found.gains.tolist() == PINNED["selection"]["gains"]
    metrics = json.loads((home / "selection" / "metrics.json").read_text())
    assert found.remaining_uncertainty.tolist() == metrics["remaining_uncertainty"]
    assert found.metrics == metrics
    assert contents(home) == before


def test_a_selection_is_repeated_from_its_own_record(home: Path) -> None:
    """What is written is what was written: files, columns, keys, values."""
    old, new = home / "selection", home / "again"
    done(replay("curate", "selection", "run.dir=again"))
    names = {name for name in contents(old) if not name.startswith("ledger/")}
    assert {name for name in contents(new) if not name.startswith("ledger/")} == names
    assert_picked(pq.read_table(new / "selection.parquet"), PINNED["selection"], COMPUTED)
    assert_table(new / "selection.parquet", old / "selection.parquet")
    assert pq.read_schema(new / "challengers.parquet") == pq.read_schema(old / "challengers.parquet")
    for name in ("posterior.safetensors", "picks.safetensors"):
        assert_tensors(new / name, old / name)
    identity = [json.loads((run / "manifest.json").read_text()) for run in (new, old)]
    assert list(identity[0]) == list(identity[1])
    assert identity[0]["identity"] == identity[1]["identity"]
    # How many rows were compared, and in which blocks, depends on the schedule.
    figures = [json.loads((run / "metrics.json").read_text()) for run in (new, old)]
    assert set(figures[1]) <= set(figures[0])
    for name in ("num_picks", "total_gain", "remaining_uncertainty", "comparison", "next_gain", "stop", "limits"):
        assert_close(figures[0][name], figures[1][name], COMPUTED, name)
    ends = [json.loads((run / "status.json").read_text()) for run in (new, old)]
    assert_close(ends[0], ends[1], COMPUTED)
    assert_close(ledger(new), ledger(old), COMPUTED)
    options = [(run / "config.yaml").read_text().replace("again", "selection") for run in (new, old)]
    assert has_all(*(yaml.safe_load(text) for text in options))


def has_all(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether all options of an older version are there, with their values; newer ones may be, too."""
    return all(
        has_all(found[name], value) if isinstance(value, dict) else found[name] == value
        for name, value in wanted.items()
    )


def ledger(run: Path) -> list[dict[str, Any]]:
    """Return the picks in a run's ledger, after looking at what is around them."""
    picks = []
    for path in sorted((run / "ledger").iterdir()):
        block = json.loads(path.read_text())
        assert (list(block), block["format"]) == (["format", "sha256", "picks"], 1)
        assert block["sha256"] == sha256(json.dumps(block["picks"], sort_keys=True).encode()).hexdigest()
        picks += block["picks"]
    return picks


@pytest.mark.parametrize("run", ["selection", "state/ticks/one-00000000", "state/ticks/two-00000002"])
def test_finished_selections_and_ticks_are_verified(run: str, home: Path) -> None:
    grow(home, "one", "two")
    assert "right: every pick checked is the best of these rows" in done(verify(run))


def test_a_killed_selection_goes_on_after_its_last_pick(home: Path) -> None:
    run = home / "selection-unfinished"
    before, picked = contents(run / "ledger"), len(ledger(run))
    assert 0 < picked < 24
    told = done(commands.UNFINISHED_SELECTION)
    assert f"continuing the run in {run}" in told
    assert f"{picked} picks are in the ledger already" in told
    assert_picked(pq.read_table(run / "selection.parquet").slice(0, picked), first(picked))
    assert_picked(pq.read_table(run / "selection.parquet"), PINNED["selection-unfinished"], COMPUTED)
    after = contents(run / "ledger")
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    assert len(ledger(run)) == 24
    assert "right: every pick" in done(verify(run.name))


def first(count: int) -> dict[str, list[Any]]:
    """Return the picks that the killed selection had recorded."""
    return {name: values[:count] for name, values in PINNED["selection-unfinished"].items()}


def grow(home: Path, *ticks: str) -> None:
    """Make the pool what it was after some ticks."""
    (home / "growing").mkdir()
    for part in (part for tick in ticks for part in commands.TICKS[tick]):
        shutil.copy(home / "pool" / f"part-{part}.parquet", home / "growing")


def test_a_third_tick_builds_on_the_two_before(home: Path) -> None:
    grow(home, "one", "two", "three")
    state = home / "state"
    old, before = pq.read_table(state / "ticks.parquet"), contents(state, "status.json", "ticks.parquet")
    assert "published already" in done(commands.TICK.given("state.tick=one"))
    assert contents(state, "status.json", "ticks.parquet") == before
    told = done(commands.TICK.given("state.tick=three"))
    assert "tick three: 1 new file with 60 rows; 10 rows picked before" in told
    new = pq.read_table(state / "ticks.parquet")
    assert new.column_names == [*old.column_names, "noise_variance"]
    assert new.slice(0, 2).select(old.column_names).equals(old)
    for row, pinned in zip(new.to_pylist(), PINNED["ticks"], strict=True):
        picks = {name: pinned[name] for name in ("ids", "gains")}
        record = {name: row[name] for name in pinned if name not in picks}
        tolerance = COMPUTED if row["tick"] == "three" else 0.0
        assert_close(record, {name: pinned[name] for name in record}, tolerance)
        assert_picked(pq.read_table(state / row["path"] / "selection.parquet"), picks, tolerance)
    after = contents(state)
    assert {name: after[name] for name in before} == before
    entries = [json.loads(after[f"log/0000000{number}.json"]) for number in (3, 5)]
    for one, other in ((entries[0], entries[1]), (entries[0]["content"], entries[1]["content"])):
        assert list(one) == list(other)
    assert entries[0]["content"]["identity"] == entries[1]["content"]["identity"]
    records = [list(entry["content"]["record"]) for entry in entries]
    assert records[1] == [*records[0], "noise_variance"]


def test_a_tick_of_another_target_is_refused(home: Path) -> None:
    grow(home, "one", "two", "three")
    ended = carry_out(commands.TICK.given("state.tick=three", "target.path=heldout.parquet"))
    assert (ended.code, "state.on_new_target=accept" in ended.err) == (2, True)


def test_features_are_found_in_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)(PINNED["torch"]))
    cache = home / "cache"
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    os.utime(entry / "lock", (1, 1))
    before, written = contents(cache), {path.name: path.stat().st_mtime_ns for path in entry.iterdir()}
    done(commands.CACHED.given("run.dir=cached", "acquisition.relative_noise=1"))  # the default of then
    assert contents(cache) == before
    after = {path.name: path.stat().st_mtime_ns for path in entry.iterdir()}
    assert after.pop("lock") > written.pop("lock")  # it was used
    assert after == written
    assert_picked(pq.read_table("cached/selection.parquet"), PINNED["cached"], COMPUTED)


LATER = ("confusion", "stopped", "warning")
"""What rounds did not record when the files were written; whoever reads a record finds more in it, and nothing less."""


def rounds(run: Path) -> list[dict[str, Any]]:
    """Return what every round of a fine-tuning recorded, with its picks."""
    found = []
    for folder in sorted((run / "rounds").iterdir()):
        record = json.loads((folder / "round.json").read_text())
        if record["round"]:
            table = pq.read_table(folder / "selection.parquet")
            record |= {"ids": table.column("id").to_pylist(), "gains": table.column("gain").to_pylist()}
        found.append({name: value for name, value in record.items() if name not in ("seconds", "drift", *LATER)})
    return found


def test_a_finished_fine_tuning_is_recognised_and_left_alone(home: Path) -> None:
    before, curves = contents(home / "tuning" / "rounds"), pq.read_table("tuning/learning_curves.parquet")
    assert rounds(home / "tuning") == PINNED["tuning"]
    for command in (commands.TUNING, replay("finetune", "tuning")):
        assert "2 rounds, 16 rows labelled, 16 on task" in done(command)
        assert contents(home / "tuning" / "rounds") == before
        assert pq.read_table("tuning/learning_curves.parquet").equals(curves)


def test_a_killed_fine_tuning_goes_on_with_the_next_round(home: Path) -> None:
    run = home / "tuning-unfinished"
    before = contents(run / "rounds")
    assert f"continuing the run in {run}" in done(commands.UNFINISHED_TUNING)
    after = contents(run / "rounds")
    assert {name: after[name] for name in before} == before
    assert set(after) == set(contents(home / "tuning" / "rounds"))
    assert_close(rounds(run), PINNED["tuning"], TRAINED)
    for name in ("selection", "labels"):
        path = f"rounds/0002/{name}.parquet"
        assert_table(run / path, home / "tuning" / path, TRAINED)
    found, wanted = (pq.read_schema(folder / "learning_curves.parquet") for folder in (run, home / "tuning"))
    assert found.equals(wanted, check_metadata=True)


def test_a_round_that_is_trained_is_not_trained_again(home: Path) -> None:
    run = home / "tuning-trained"
    checkpoint = run / "rounds" / "0002" / "checkpoint.safetensors"
    os.utime(checkpoint, (1, 1))
    before = contents(run / "rounds")
    done(commands.TRAINED_TUNING)
    after = contents(run / "rounds")
    assert {name: after[name] for name in before} == before
    assert checkpoint.stat().st_mtime == 1
    assert rounds(run) == PINNED["tuning"]


def test_a_finished_embedding_is_recognised_and_left_alone(home: Path) -> None:
    before = contents(home / "embedding")
    for command in (commands.EMBEDDING, replay("embed", "embedding")):
        assert "this run is finished already" in done(command)
        assert contents(home / "embedding") == before


def test_a_killed_embedding_goes_on_with_the_missing_parts(home: Path) -> None:
    whole, run = home / "embedding" / "embeddings", home / "embedding-unfinished"
    before = contents(run / "embeddings")
    assert "128 of 240 rows are embedded already" in done(commands.UNFINISHED_EMBEDDING)
    after = contents(run / "embeddings")
    assert {name: after[name] for name in before} == before
    assert sorted(after) == sorted(contents(whole))
    for name in sorted(set(after) - set(before)):
        found, wanted = (pq.read_table(folder / name) for folder in (run / "embeddings", whole))
        assert found.schema.equals(wanted.schema, check_metadata=True)
        assert found.drop_columns("embedding").equals(wanted.drop_columns("embedding"))
        numbers = [np.array(table.column("embedding").to_pylist()) for table in (found, wanted)]
        np.testing.assert_allclose(*numbers, rtol=1e-5, atol=1e-6)
