"""The page over ticks is whole, safe and readable."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin

import pytest

from ray_itl.errors import InputError
from ray_itl.report.ticks_page import TickPoint, TicksReport, render_ticks
from tests.report.browser import BROWSER, drawn_chart, drawn_page
from tests.report.pages import HOSTILE, Page


def make_ticks(count: int, **changes: Any) -> TicksReport:
    ticks = [
        TickPoint(f"2026-01-{k:02d}", 1.767e9 + 86400 * k, 1, 1000, 10 * (k % 3), k % 3 / k, 0.9**k, "n", f"ticks/t{k}")
        for k in range(1, count + 1)
    ]
    return TicksReport(**({"title": "ticks", "unit": "nats", "ticks": ticks} | changes))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_element(text: str) -> None:
    def page(word: str) -> Page:
        tick = TickPoint(word, 0.0, 1, 1, 1, 1.0, 0.5, word, word, ["report.html", word])
        return Page(render_ticks(make_ticks(1, title=word, unit=word, ticks=[tick])))

    hostile, harmless = page(text), page("(harmless)")
    assert hostile.shape == harmless.shape
    assert hostile.running == harmless.running
    assert "".join(hostile.words).count(text) == "".join(harmless.words).count("(harmless)") >= 5


@pytest.mark.parametrize("path", ["javascript:alert(1)", "//elsewhere.org/x", "https://x", "ticks/a b?#&\"'"])
def test_links_lead_into_the_state_alone(path: str) -> None:
    tick = TickPoint("t", 0.0, 1, 1, 1, 1.0, 0.5, "n", path, ["report.html"])
    page = Page(render_ticks(make_ticks(1, ticks=[tick])))
    (link,) = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert link == f"./{quote(path)}/report.html"
    base = "file:///state/ticks.html"
    assert unquote(urljoin(base, link)).startswith("file:///state/")


def test_every_tick_links_to_its_report_and_rows() -> None:
    files = {
        "a": ["metrics.json", "report.html", "selection.jsonl", "selection.parquet"],
        "b": ["selection.parquet", "skipped.parquet"],
        "c": [],
    }
    ticks = [TickPoint(name, 0.0, 1, 1, 1, 1.0, 0.5, "n", f"ticks/{name}-1", found) for name, found in files.items()]
    page = Page(render_ticks(make_ticks(3, ticks=ticks)))
    assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == [
        *("./ticks/b-1/selection.parquet", "./ticks/b-1/skipped.parquet"),
        *("./ticks/a-1/report.html", "./ticks/a-1/selection.jsonl"),
    ]
    assert "ticks/" not in page.text


def test_text_on_charts_is_escaped_for_plotly_too() -> None:
    tick = TickPoint("<b>%{x}</b>", 0.0, 1, 1, 1, 1.0, 0.5, "n", "")
    page = Page(render_ticks(make_ticks(1, ticks=[tick])))
    for chart in ("left", "gain", "picks"):
        assert "&lt;b&gt;" in str(page.figure(chart))
        assert "<b>" not in str(page.figure(chart))
        assert "%{x}" not in str([trace["hovertemplate"] for trace in page.figure(chart)["data"]])


@pytest.mark.parametrize("count", [1, 30])
def test_loads_nothing_and_shows_every_tick(count: int) -> None:
    page = Page(render_ticks(make_ticks(count)))
    assert (page.loading, len(page.running)) == ([], 2)
    words = re.sub(r"\s+", " ", " ".join(page.words))
    assert re.findall(r"(2026-01-\d\d) 202", words) == [f"2026-01-{k:02d}" for k in range(count, 0, -1)]
    picks = sum(10 * (k % 3) for k in range(1, count + 1))
    assert f"{picks:,} rows picked in {count} tick" in words
    assert len(page.figure("picks")["data"][0]["y"]) == count


def test_a_report_needs_a_tick() -> None:
    with pytest.raises(InputError, match="at least one tick"):
        make_ticks(0)


@pytest.mark.cluster
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("count", [1, 30])
def test_charts_are_drawn(count: int, tmp_path: Path) -> None:
    path = tmp_path / "ticks.html"
    path.write_text(render_ticks(make_ticks(count, title="<img src=x>")))
    drawn = drawn_page(path, tmp_path / "profile")
    assert 'class="js-line"' in drawn_chart(drawn, "left")
    for name in ("gain", "picks"):
        assert 'class="trace bars"' in drawn_chart(drawn, name)
    assert "<img" not in drawn
