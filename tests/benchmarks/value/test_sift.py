"""The suites on a tiny model and some hundred passages: resuming, processes, tables."""

import io
import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.settings import BenchmarkSettings
from benchmarks.value import corpus as corpus_module
from benchmarks.value import scoring, sift
from benchmarks.value.redundancy import redundancy_tables, render_redundancy, run_redundancy
from benchmarks.value.scoring import Work, score_all
from benchmarks.value.settings import RedundancySettings, SiftCopiesSettings, SiftSettings
from benchmarks.value.sift import run_sift
from benchmarks.value.sift_report import render_sift, scores_of, sift_scores, sift_tables
from ray_itl.errors import RunDirectoryError
from tests.benchmarks.value.passages import corpus, embed
from tests.processes import wait_until
from tests.training.test_language_model import write_tiny_llama

pytest.importorskip("peft")
pytest.importorskip("plotly")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about the newest transformers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict:
    model = str(write_tiny_llama(tmp_path_factory.mktemp("llama")))
    return {
        "model": model, "start_token": "<s>", "lora_rank": 2, "lora_modules": ["q_proj"], "precision": "float32",
        "learning_rate": 0.05, "n": 4, "scored_after": [2, 4], "processes": 0,
        "rules": ["random", "nearest", "nearest@0.95", "vtl@10", "itl@1"],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _without_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "_embedded", embed)


def silent(line: str) -> None:
    del line


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.json"))}


def curves_of(folder: Path) -> dict[str, dict]:
    """Bits per byte in every file of a test."""
    found = {name: json.loads(content) for name, content in files(folder).items() if name.count("/") == 4}
    return {name: values["bits_per_byte"] for name, values in found.items()}


def test_a_run_that_was_killed_goes_on_and_ends_the_same(tiny, tmp_path: Path, monkeypatch) -> None:
    settings = SiftSettings(**tiny, tests=2)
    whole = run_sift(settings, 0, tmp_path / "whole", silent, corpus())
    keep, kept = Work.keep, []

    def killed(self: Work, rule: str, curve: object) -> None:
        if len(kept) == 7:
            raise KeyboardInterrupt
        keep(self, rule, curve)  # pyright: ignore[reportArgumentType] - passed through
        kept.append(rule)

    monkeypatch.setattr(Work, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        run_sift(settings, 0, tmp_path / "cut", silent, corpus())
    monkeypatch.setattr(Work, "keep", keep)
    before = files(tmp_path / "cut")
    assert len(curves_of(tmp_path / "cut")) == 7
    said: list[str] = []
    again = run_sift(settings, 0, tmp_path / "cut", said.append, corpus())
    assert {name: files(tmp_path / "cut")[name] for name in before} == before  # nothing is done twice
    assert curves_of(tmp_path / "cut") == curves_of(tmp_path / "whole")
    assert len(curves_of(tmp_path / "cut")) == 6 * 5
    assert any("6 of 6 tests" in line for line in said)
    assert [scores_of(each).tolist() for each in again.pools[0].outcomes] == [
        scores_of(each).tolist() for each in whole.pools[0].outcomes
    ]


def test_further_tests_and_rules_leave_what_there_is(tiny, tmp_path: Path) -> None:
    few = SiftSettings(**{**tiny, "rules": ["nearest"]}, tests=1, first_test=60)
    run_sift(few, 0, tmp_path, silent, corpus())
    before = files(tmp_path)
    more = SiftSettings(**tiny, tests=2, first_test=59)
    run_sift(more, 0, tmp_path, silent, corpus())
    assert before.items() <= files(tmp_path).items()
    run_sift(replace(more, learning_rate=0.1), 0, tmp_path, silent, corpus())
    run_sift(more, 1, tmp_path, silent, corpus(seed=1))
    assert len(list((tmp_path / "sift").iterdir())) == 3  # other options, another folder


def test_a_run_that_is_done_needs_no_model(tiny, tmp_path: Path, monkeypatch) -> None:
    settings = SiftSettings(**tiny, tests=1)
    first = run_sift(settings, 0, tmp_path, silent, corpus())
    monkeypatch.setattr(scoring, "Tuner", None)
    monkeypatch.setattr(sift, "open_pool", None)
    assert run_sift(settings, 0, tmp_path, silent, corpus()) == first


@pytest.mark.cluster
def test_processes_give_the_same_curves(tiny, tmp_path: Path) -> None:
    for processes in (0, 2):
        settings = SiftSettings(**{**tiny, "processes": processes}, tests=1)
        run_sift(settings, 0, tmp_path / str(processes), silent, corpus())
    assert curves_of(tmp_path / "0") == curves_of(tmp_path / "2")


@pytest.mark.cluster
def test_a_process_that_dies_is_told_of(tiny, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "_begin", _die)
    settings = SiftSettings(**{**tiny, "processes": 1}, tests=1)
    with pytest.raises(RunDirectoryError, match="the same command goes on"):
        score_all([Work(tmp_path / "a", "a cat", {"nearest": ["a dog"] * 4})], settings, tiny["model"], 0, silent)


@pytest.mark.cluster
def test_an_interrupt_waits_for_no_process(tiny, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "_compute_here", time.sleep)  # of a test that takes 10^6 s
    settings = SiftSettings(**{**tiny, "processes": 1}, tests=1)
    computed = scoring._computed([1e6, 0.0], settings, tiny["model"], 0)  # pyright: ignore[reportArgumentType]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs tests side by side ignores it
    try:
        threading.Timer(20.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            next(computed)
    finally:
        signal.signal(signal.SIGINT, before)
    # The executor's own thread may be the one that was told of the end, and has yet to note it.
    wait_until(lambda: not multiprocessing.active_children(), 30)


def _die(*_: object) -> None:
    raise SystemExit(9)


def test_tables_and_page_have_paired_differences(tiny, tmp_path: Path) -> None:
    settings = SiftCopiesSettings(**tiny, tests=2, pools=["clean", "edited"], rows=12, most_copies=5)
    found = run_sift(settings, 0, tmp_path, silent, corpus())
    text = sift_tables(found, settings)
    assert text.startswith("sift_copies: ")
    for pool in found.pools:
        ends = {each.rule.name: np.array([curve.bits[4] for curve in each.curves]) for each in pool.outcomes}
        gaps = ends["vtl@10"] - ends["nearest"]
        line = next(line for line in text.split(f"Pool {pool.name}: ")[1].splitlines() if line.startswith("| VTL"))
        shown = f"{gaps.mean():+.4f} ± {gaps.std(ddof=1) / 6**0.5:.4f}"
        assert line.startswith(f"| VTL, noise 10 | {ends['vtl@10'].mean():.4f} | {shown} | ")
        assert line.count(" ± ") == 4  # of all, and of each source
    assert "Pool clean: 18 rows" in text
    edited = {each.rule.name: np.mean([own.copies for own in each.picked]) for each in found.pools[1].outcomes}
    assert edited["nearest"] > edited["nearest@0.95"]
    page = render_sift(found, settings, "this machine")
    assert page.count('class="figure"') == 4
    scores = pd.read_csv(io.StringIO(sift_scores(found)))
    assert len(scores) == 2 * 6 * 5 * 3  # pools, tests, rules, and untrained and after 2 and 4 steps
    ends = scores[(scores["picks"] == 4) & (scores["pool"] == "edited")].pivot(
        index="test", columns="rule", values="bits_per_byte"
    )
    curves = {each.rule.name: [curve.bits[4] for curve in each.curves] for each in found.pools[1].outcomes}
    for rule, bits in curves.items():
        assert ends[rule].to_list() == pytest.approx(bits, abs=1e-6)


def test_redundancy_counts_what_copies_take(tiny, tmp_path: Path) -> None:
    settings = RedundancySettings(**tiny, copies=[1, 2, 8], tests=1, nearest=5, score=True)
    levels = run_redundancy(settings, 0, tmp_path, silent, corpus())
    assert [level.copies for level in levels] == [1, 2, 8]
    assert levels[0].num_rows * 8 == levels[1].num_rows * 4 == levels[2].num_rows
    assert levels[0].repeats["nearest"] == 0 < levels[2].repeats["nearest"]
    for level in levels:
        assert level.nats["itl@1"].shape == (2, 3)
        assert (level.nats["itl@1"][0] >= level.nats["random"][0] - 1e-9).all()
    text = redundancy_tables(levels, settings)
    assert text.count("| rule | 1 | 2 | 8 |") == 4
    assert "(100%)" in text
    assert "Bits per byte" in text
    assert render_redundancy(levels, settings, "this machine").count('class="figure"') == 3
    alone = run_redundancy(replace(settings, score=False), 0, tmp_path, silent, corpus())
    assert "Bits per byte" not in redundancy_tables(alone, settings)


def test_the_suites_have_options_of_their_own() -> None:
    settings = BenchmarkSettings()
    assert (settings.sift.pools, settings.sift_copies.pools) == (["clean"], ["edited", "natural"])
    assert settings.sift.first_test == settings.redundancy.first_test == 50
