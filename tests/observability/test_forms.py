"""The forms of telling: what each writes, where, and how often."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ray_itl.errors import ConfigError
from ray_itl.observability.console import (
    Event,
    FinalLine,
    JobSummary,
    JsonLines,
    Lines,
    Silence,
    Throttle,
    json_line,
    write_line,
)
from ray_itl.observability.live import LiveLine
from ray_itl.observability.reporter import Reporter, choose_renderer

NOTE = Event("message", "loading", {"step": "load"})
PROGRESS = [Event("rows", f"  loaded {k} of 9", {"done": k}, passing=True) for k in range(9)]
ENDING = JobSummary("picked 3", "report: /r/report.html", {"picked": 3}, {"results": "/r", "report": "/r/report.html"})


def test_lines_thin_out_progress_and_end_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for event in (NOTE, *PROGRESS, NOTE):
        lines.emit(event)
    lines.finish(ENDING)
    assert capsys.readouterr() == ("\npicked 3\nreport: /r/report.html\n", "loading\n  loaded 0 of 9\nloading\n")


def test_the_final_line_is_all(capsys: pytest.CaptureFixture[str]) -> None:
    line = FinalLine()
    for event in (NOTE, *PROGRESS):
        line.emit(event)
    line.finish(ENDING)
    assert capsys.readouterr() == ("picked 3; results: /r\n", "")


def test_warnings_reach_every_form_and_the_ending(capsys: pytest.CaptureFixture[str]) -> None:
    words = "the task is not in the pool"
    for log, (out, err) in {
        "lines": ("\npicked 3\nwarning: {w}\nreport: /r/report.html\n", "warning: {w}\n"),
        "quiet": ("picked 3; 1 warning; results: /r\n", "warning: {w}\n"),
    }.items():
        reporter = Reporter(log)
        for _ in range(2):  # told once, however often it comes
            reporter.warn(words)
        reporter.finish(ENDING)
        assert capsys.readouterr() == (out.format(w=words), err.format(w=words))
    reporter = Reporter("json")
    reporter.warn(words)
    reporter.warn("and that")
    reporter.finish(ENDING)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["event"], each["message"]) for each in told[:2]] == [("warning", words), ("warning", "and that")]
    assert told[2]["warnings"] == [words, "and that"]
    live = Console(file=io.StringIO(), force_terminal=True, width=40)
    Reporter(renderer=LiveLine(live)).warn(words)
    assert f"warning: {words}" in live.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_silence_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(renderer=Silence())
    reporter.warn("anything")
    reporter.finish(ENDING)
    assert capsys.readouterr() == ("", "")
    assert reporter.warnings == ["anything"]


def test_json_is_an_object_a_line_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines(clock=lambda: 12.3456)
    for event in (NOTE, *PROGRESS, Event("step", facts={"step": "select"})):
        lines.emit(event)
    lines.finish(ENDING)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert [json.loads(line) for line in shown.out.splitlines()] == [
        {"event": "message", "time": 12.346, "step": "load", "message": "loading"},
        {"event": "rows", "time": 12.346, "done": 0, "message": "loaded 0 of 9"},
        {"event": "step", "time": 12.346, "step": "select"},
        {"event": "finished", "time": 12.346, "picked": 3, "paths": dict(ENDING.paths), "message": "picked 3"},
    ]


def test_json_holds_any_value_in_one_line_of_ascii() -> None:
    facts = {"nan": float("nan"), "inf": [np.float64("inf"), 1], "path": Path("/a\nb"), "ß": (True, None)}
    line = json_line(facts)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"nan": None, "inf": [None, 1], "path": "/a\nb", "ß": [True, None]}


def live(width: int = 40) -> tuple[LiveLine, io.StringIO]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, highlight=False, legacy_windows=False)
    return LiveLine(console), screen


def test_the_live_line_is_drawn_in_place_and_what_happens_stays_above(capsys: pytest.CaptureFixture[str]) -> None:
    line, screen = live()
    for event in (*PROGRESS, NOTE, *PROGRESS):
        line.emit(event)
    line.clear()
    line.finish(ENDING)
    shown = screen.getvalue()
    assert "loaded 0 of 9" in shown
    assert shown.count("loading\n") == 1
    # Every line begun for progress is erased again, and the cursor that was hidden is shown.
    assert shown.count("\n") == 1 + shown.count("\x1b[?25l")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2
    assert capsys.readouterr() == ("\npicked 3\nreport: /r/report.html\n", "")


@pytest.mark.parametrize("text", ["x" * 500, "[bold]no markup[/bold] " * 9, "words " * 99])
def test_the_live_line_is_never_more_than_one_line(text: str) -> None:
    line, screen = live(width=30)
    line.emit(Event("rows", text, passing=True))
    before = screen.getvalue()
    line.clear()
    assert text[:20] in before
    assert "\n" not in before
    assert max(len(part) for part in before.split("\r")) < 60  # a screen's width and some escapes


def test_progress_becomes_rarer_as_a_run_grows_long() -> None:
    now = [0.0]
    throttle = Throttle(every=1.0, growth=0.1, clock=lambda: now[0])
    told = []
    for tenth in range(36_000):
        now[0] = tenth / 10
        if throttle.ready():
            told.append(now[0])
    assert np.diff(told)[:5] == pytest.approx(1.0)
    assert 40 < len(told) < 80
    steady = Throttle(every=2.0, clock=lambda: now[0])
    assert (steady.ready(), steady.ready()) == (True, False)


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError("No space left on device")


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        write_line(stream, "anything")
    with (tmp_path / "log").open("w", encoding="ascii") as file:
        write_line(file, "größe")
    assert (tmp_path / "log").read_text() == "gr\\xf6\\xdfe\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("log", "stream", "term", "kind"),
    [
        ("auto", Terminal(), "xterm", LiveLine),
        ("auto", Terminal(), "dumb", Lines),
        ("auto", io.StringIO(), "xterm", Lines),
        ("lines", Terminal(), "xterm", Lines),
        ("quiet", Terminal(), "xterm", FinalLine),
        ("json", Terminal(), "xterm", JsonLines),
    ],
)
def test_the_form_follows_the_option_and_the_terminal(
    monkeypatch: pytest.MonkeyPatch, log: str, stream: io.StringIO, term: str, kind: type
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    assert type(choose_renderer(log)) is kind


def test_another_form_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run\.log='loud' .* auto, lines, quiet, json"):
        choose_renderer("loud")
