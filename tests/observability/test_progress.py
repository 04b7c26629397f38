"""Reporting progress: the figures of an event, and the words for them."""

from __future__ import annotations

import json

import pytest

from ray_itl.core.result import GreedyStats, Progress
from ray_itl.core.trajectory import Pick
from ray_itl.observability.reporter import Advance, Reporter, short


def events(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(event.pop("time") > 1e9 for event in found)
    return found


def test_picks_are_told_with_what_they_are_worth_and_how_fast(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("json")
    progress = Progress([Pick(5, 77, 0.25)], 10, 40, GreedyStats(passes=3))
    with reporter.stage("select"):
        reporter.picks(progress, Advance(gain=2.5, rows_per_s=4.56e6, eta_s=72.4))
    step, picks = events(capsys)
    assert step == {"event": "step", "step": "select"}
    assert picks == {
        "event": "picks",
        "step": "select",
        "picked": 10,
        "of": 40,
        "gain": 2.5,
        "last_gain": 0.25,
        "passes": 3,
        "rows_per_s": 4.56e6,
        "eta_s": 72.4,
        "message": "picked 10 of 40, gain 2.5 (last 0.25), 3 passes, 4.56M rows/s, 1 min 12 s left",
    }
    reporter.picks(progress, Advance(gain=2.5, rows_per_s=None, eta_s=None))
    assert events(capsys) == []  # a second has not gone by


def test_the_last_pick_is_always_told(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("json")
    for picked in (9, 10):
        reporter.picks(Progress([Pick(5, 77, 0.25)], picked, 10, GreedyStats(passes=1)), Advance(1.0, None, 0.0))
    assert [event["message"] for event in events(capsys)] == [
        f"picked {picked} of 10, gain 1 (last 0.25), 1 pass" for picked in (9, 10)
    ]


def test_rows_are_told_with_their_rate(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter("json").rows("loaded", 2000)(500)
    (rows,) = events(capsys)
    assert (rows["done"], rows["of"]) == (500, 2000)
    assert rows["eta_s"] == pytest.approx(1500 / rows["rows_per_s"], abs=0.1)
    assert rows["message"].startswith("loaded 500 of 2,000 rows (")


def test_a_pace_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], []
    monkeypatch.setattr("ray_itl.observability.reporter.time.perf_counter", lambda: now[0])
    reporter = Reporter("quiet")
    reporter.on_rows = told.append
    report = reporter.rows("embedded", 1_000_100)
    now[0] = 1.0
    report(1_000_000)  # found again
    for second in range(2, 200):
        now[0] = float(second)
        report(1_000_000 + second // 2)
    assert told[0]["rows_per_s"] == 1e6
    assert told[-1]["rows_per_s"] == pytest.approx(0.5, abs=0.02)
    assert told[-1]["done"] == 1_000_099
    assert told[-1]["eta_s"] == pytest.approx(2.0, abs=0.2)


def test_rows_of_several_kinds_are_told_of_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter("json").rows_of("embedded")
    report("targets", 40, 40)  # what is there at once needs no words
    report("known rows", 5, 1000)
    assert [event["message"].partition(" (")[0] for event in events(capsys)] == ["embedded known rows: 5 of 1,000 rows"]


def test_stages_keep_their_seconds_and_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("json")
    with reporter.stage("open", "opening"):
        pass
    first = reporter.seconds["open"]
    with pytest.raises(KeyError), reporter.stage("open"):
        raise KeyError
    assert reporter.seconds["open"] > first > 0
    assert [(event["event"], event["step"]) for event in events(capsys)] == [("step", "open"), ("message", "open")]


@pytest.mark.parametrize(("rate", "text"), [(0.5, "0.5"), (999, "999"), (12_345, "12.3k"), (4e6, "4M"), (2e9, "2G")])
def test_rates_are_short(rate: float, text: str) -> None:
    assert short(rate) == text
