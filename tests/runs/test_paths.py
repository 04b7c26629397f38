"""Where a run goes that was told no place."""

import re
from pathlib import Path

from ray_itl.runs.paths import run_directory


def test_runs_of_the_same_second_do_not_meet(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray_itl.runs.paths.time.strftime", lambda _: "20260131-030000")
    found = {run_directory(None) for _ in range(20)}
    assert len(found) == 20
    assert all(re.fullmatch(rf"{re.escape(str(tmp_path))}/runs/20260131-030000-[0-9a-f]{{6}}", path) for path in found)
    assert not list(tmp_path.iterdir()), "nothing is made before options are known to be good"


def test_a_place_that_was_told_stays_as_it_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_directory("mine") == str(Path(tmp_path, "mine"))
