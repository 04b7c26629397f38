"""A sweep: its variants and seeds, and its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ray_itl.errors import ConfigError
from ray_itl.experiments.job import run_experiment, sweep_members
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.group_settings import DataSettings, RoundSettings, TaskSettings
from ray_itl.rounds.report import sweep_comparison
from ray_itl.rounds.scores import score_of
from ray_itl.rounds.settings import FineTuneJobSettings
from ray_itl.rounds.sweep import _processes, _summed_up
from ray_itl.rounds.sweep_settings import SweepSettings
from ray_itl.rounds.sweep_table import sweep_figures, sweep_text
from tests.processes import process_is_alive, wait_until
from tests.rounds.helpers import digits_settings

NOISES = {"acquisition.name": ["itl", "my_rules:Rule"], "acquisition.relative_noise": [0.1, 10]}
ROOT = Path(__file__).parents[2]


def test_a_grid_is_every_combination_beside_the_variants() -> None:
    sweep = SweepSettings(variants={"random": {"acquisition.name": "random"}, "plain": None}, grid=NOISES)
    names = ["itl+relative_noise-0.1", "itl+relative_noise-10"]
    assert list(sweep.all_variants)[:4] == ["random", "plain", *names]
    assert list(sweep.all_variants)[4:] == [name.replace("itl", "my_rules-Rule") for name in names]
    assert sweep.all_variants[names[1]] == {"acquisition.name": "itl", "acquisition.relative_noise": 10}
    assert sweep.all_variants["plain"] == {}
    switches = SweepSettings(grid={"embedding.unit_norm": [True, False], "rounds.targets_per_round": [None, 3]})
    assert list(switches.all_variants)[:2] == [
        "unit_norm-true+targets_per_round-null",
        "unit_norm-true+targets_per_round-3",
    ]


def test_only_may_have_patterns() -> None:
    chosen = SweepSettings(variants={"random": {}, "itl": {}}, grid=NOISES, only=["itl+*", "random"]).chosen_variants
    assert list(chosen) == ["random", "itl+relative_noise-0.1", "itl+relative_noise-10"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": {"rounds.batch": 3}}, r"sweep\.grid\.rounds\.batch=3 cannot be used: list its values"),
        ({"grid": {"rounds.batch": []}}, r"sweep\.grid\.rounds\.batch=\[\] cannot be used"),
        ({"grid": {"rounds.batch": [1, 1]}}, r"sweep\.grid has two variants 'batch-1'"),
        ({"variants": {"batch-1": {}}, "grid": {"rounds.batch": [1]}}, r"or sweep\.variants has it"),
        ({"grid": {"model.options": [{"hidden": [3]}]}}, r"sweep\.grid cannot be named"),
        ({"variants": {"itl": {}}, "only": ["vtl*"]}, r"sweep\.only names vtl\*: use some of itl"),
    ],
)
def test_sweeps_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepSettings(**options)


def test_members_are_variants_and_seeds_from_the_first(data: DataSettings, tmp_path: Path) -> None:
    one = digits_settings(data, tmp_path / "run")
    sweep = SweepSettings(grid={"rounds.batch": [1, 2]}, first_seed=100, seeds=2)
    settings = FineTuneJobSettings(**{**vars(one), "sweep": sweep})
    members = sweep_members(settings, Reporter("quiet"))
    assert list(members) == [("batch-1", 100), ("batch-2", 100), ("batch-1", 101), ("batch-2", 101)]
    assert members["batch-2", 101].rounds == replace(one.rounds, batch=2, seed=101)
    assert members["batch-2", 101].run.dir == str(tmp_path / "run/batch-2/seed-101")
    wrong = replace(settings, sweep=SweepSettings(grid={"rounds.batch": [1, 0]}), task=TaskSettings("no such task"))
    with pytest.raises(ConfigError, match=r"sweep, variant batch-0: rounds\.batch=0 cannot be used"):
        sweep_members(wrong, Reporter("quiet"))  # before the task is looked for


def test_a_sweep_writes_its_tables_and_grows(data: DataSettings, tmp_path: Path) -> None:
    one = digits_settings(data, tmp_path / "run", rounds=RoundSettings(2, 6))
    variants = {"random": {"acquisition.name": "random"}, "nearest": {"acquisition.name": "nearest"}}
    for seeds in (1, 2):
        sweep = SweepSettings(variants=variants, seeds=seeds)
        done = run_experiment(FineTuneJobSettings(**{**vars(one), "sweep": sweep}), Reporter("quiet"))
        curves = pq.read_table(tmp_path / "run/learning_curves.parquet")
        assert len(curves) == 2 * seeds * 3
        figures = json.loads((tmp_path / "run/metrics.json").read_text())
        assert figures == done.facts
        again = sweep_comparison(curves, one, ["random", "nearest"])
        assert sweep_figures(again, score_of(one)) == figures
        assert (tmp_path / "run/table.md").read_text() == sweep_text(again, score_of(one)) + "\n"
    assert (
        "nearest needs" in (tmp_path / "run/table.md").read_text() or "never" in (tmp_path / "run/table.md").read_text()
    )


def test_processes_end_with_an_error_in_the_block() -> None:
    def interrupted() -> None:
        with _processes(1) as processes:
            processes.submit(os.getpid).result()
            processes.submit(time.sleep, 600)
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 60


def test_what_runs_warn_of_is_one_line() -> None:
    warned = {("itl", 0): [], ("itl", 1): ["it fell", "again"], ("itl", 2): ["more"], ("random", 0): []}
    assert _summed_up(warned) == "itl, seed 1: it fell (and 2 more, in status.json of 2 runs)"
    assert _summed_up({("itl", 0): []}) == ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_the_sweep_that_was_killed(tmp_path: Path) -> None:
    """Else they would go on with queued runs beside the sweep that resumes."""
    code = """
import multiprocessing, os, pathlib, sys, time
from concurrent.futures import ProcessPoolExecutor
from ray_itl.rounds.sweep import _end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as processes:
        pathlib.Path(sys.argv[1]).write_text(str(processes.submit(os.getpid).result()))
        processes.submit(time.sleep, 600).result()
"""
    (tmp_path / "driver.py").write_text(code)
    driver = subprocess.Popen([sys.executable, str(tmp_path / "driver.py"), str(tmp_path / "pid")], cwd=ROOT)
    try:
        wait_until((tmp_path / "pid").exists, 200)
        wait_until(lambda: (tmp_path / "pid").read_text() != "", 60)
        worker = int((tmp_path / "pid").read_text())
        assert process_is_alive(worker)
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not process_is_alive(worker), 60)
