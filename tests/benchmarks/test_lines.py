from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.lines import KNN, OURS, PLAIN, RETRIEVER, Line, lines_tables, run_lines, take_turns
from benchmarks.peers import ITL, VTL, Problem
from benchmarks.settings import PeersSettings

SMALL = PeersSettings(
    data=["synthetic"], num_rows=[], lines=[300, 200], line_repeats=2, dim=16, num_targets=5, n=8, num_threads=1
)


@pytest.mark.filterwarnings("ignore")  # of packages of others
def test_all_that_are_installed_take_turns_on_the_same_rows(tmp_path: Path) -> None:
    said: list[str] = []
    (found,) = run_lines(SMALL, 0, tmp_path, said.append)
    assert [result.num_rows for result in found.results] == [200, 300]
    for result in found.results:
        assert {*OURS, PLAIN} <= {*result.seconds}
        assert min(result.seconds.values()) > 0
        assert result.ratio(ITL, PLAIN) == result.seconds[ITL] / result.seconds[PLAIN]
    left_out = [name for name in (KNN, RETRIEVER) if name not in found.results[0].seconds]
    assert all(any(name in line and "ray_itl[peers]" in line for line in said) for name in left_out)
    table = lines_tables([found], SMALL)
    assert f"| 200 | {ITL} | " in table
    assert f"| 300 | {PLAIN} | " in table


def test_what_is_no_line_to_beat_on_many_rows_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Line("few", "", lambda problem: lambda: len(problem.pool), most_rows=200)
    all_of_them = [Line(name, "", lambda _: lambda: None) for name in (ITL, VTL)]
    monkeypatch.setattr("benchmarks.lines.LINES", (few, *all_of_them))
    (found,) = run_lines(SMALL, 0, tmp_path, lambda _: None)
    assert ["few" in result.seconds for result in found.results] == [True, False]


def test_nobody_always_follows_the_same_one_and_preparing_does_not_count() -> None:
    told: list[str] = []

    def line(name: str) -> Line:
        def prepare(_: Problem) -> Callable[[], None]:
            told.append(f"{name} prepares")
            return lambda: told.append(name)

        return Line(name, "", prepare)

    seconds = take_turns([line(name) for name in "abc"], problem=None, repeats=3)  # type: ignore[arg-type]
    assert list(seconds) == ["a", "b", "c"]
    assert told == [f"{name} prepares" for name in "abc"] + [*"abc", *"abc", *"bca", *"cab"]


def test_no_numbers_of_rows_no_lines(tmp_path: Path) -> None:
    assert run_lines(replace(SMALL, num_rows=[300], lines=[]), 0, tmp_path, lambda _: None) == []
