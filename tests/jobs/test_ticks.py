"""Ticks as a scheduler runs them: what they print, and the exit codes it can rely on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.settings import CurationSettings, with_absolute_paths
from ray_itl.curation.state_settings import StateSettings
from ray_itl.errors import ConfigError
from ray_itl.ticks.lease import acquire
from ray_itl.ticks.log import StateStore, TickLog
from tests.jobs.helpers import call_job, compose_job, load_job
from tests.ticks.helpers import Growing


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    growing = Growing(tmp_path)
    growing.grow(0)
    return growing


def options(growing: Growing, *more: str) -> list[str]:
    paths = [f"pool.path={growing.pool}", f"target.path={growing.target}", f"state.dir={growing.location}"]
    return [*paths, "selection.n=4", "cluster.num_shards=0", "run.report=false", *more]


def test_a_tick_a_duplicate_and_one_without_news(growing: Growing, capsys: pytest.CaptureFixture[str]) -> None:
    done = call_job("curate", *options(growing, "state.tick=2026-01-31"), capsys=capsys)
    assert done.returncode == 0, done.stderr
    assert "tick 2026-01-31: 1 new file with 60 rows; picked 4 of 60, worth" in done.stdout
    (record,) = growing.records()
    assert f"results: {growing.location}/{record.path}" in done.stdout
    again = call_job("curate", *options(growing, "state.tick=2026-01-31"), capsys=capsys)
    told = done.stdout.replace("tick 2026-01-31:", "tick 2026-01-31 was published already, nothing was done:")
    assert again.stdout.lstrip() == told.lstrip()
    idle = call_job("curate", *options(growing), capsys=capsys)
    assert "nothing worth adding: no new rows" in idle.stdout
    assert {path.name for path in growing.folder.iterdir()} == {"pool", "target.parquet", "state"}


def test_beside_a_live_tick_the_exit_code_says_try_later(growing: Growing, capsys: pytest.CaptureFixture[str]) -> None:
    acquire(TickLog(StateStore(growing.location)), "nightly", 60, "raysubmit_1")
    done = call_job("curate", *options(growing), capsys=capsys)
    assert done.returncode == os.EX_TEMPFAIL == 75
    assert done.stdout == ""
    assert done.stderr.startswith("error: tick nightly is at work in")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("change", ["acquisition.noise_variance=3", "state.dir=nosuch://x", "state.tick=a/b"])
def test_what_cannot_work_has_exit_code_2(growing: Growing, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    load_job("curate").main(compose_job("curate", *options(growing, "state.tick=a")))
    done = call_job("curate", *options(growing, "state.tick=b", change), capsys=capsys)
    assert done.returncode == 2
    assert change.split("=")[0].split(".")[1].split("_")[0] in done.stderr


def test_unfinished_ticks_are_kept_where_run_dir_says(growing: Growing) -> None:
    load_job("curate").main(compose_job("curate", *options(growing, f"run.dir={growing.folder / 'work'}")))
    assert list((growing.folder / "work").iterdir()) == []
    assert len(growing.records()) == 1


def test_paths_of_ticks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for given, kept in (("s", str(tmp_path / "s")), ("s3://bucket/s", "s3://bucket/s"), (str(tmp_path), str(tmp_path))):
        settings = with_absolute_paths(CurationSettings(state=StateSettings(given)))
        assert (settings.state.dir, settings.run.dir) == (kept, None)
    settings = with_absolute_paths(CurationSettings(run=RunSettings("work"), state=StateSettings("s")))
    assert settings.run.dir == str(tmp_path / "work")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "x"}}))
    with pytest.raises(ConfigError, match=r"state\.dir=s must be an absolute path or a URI under ray job submit"):
        with_absolute_paths(CurationSettings(state=StateSettings("s")))
