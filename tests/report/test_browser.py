"""A browser opens the page and draws every chart."""

import json
from pathlib import Path

import pytest

from ray_itl.report.selection_data import Use
from ray_itl.report.selection_page import render
from tests.report.browser import BROWSER, drawn_chart, drawn_page, hidden_width, saved
from tests.report.helpers import make_report_data
from tests.report.test_thumbnails import encoded


@pytest.mark.cluster
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("n", [1, 100, 10_000])
def test_charts_and_table_are_drawn(n: int, tmp_path: Path):
    hostile = "</script><img src=x onerror=document.title='hacked'>"
    data = make_report_data(n, ids=[hostile] * n, columns={hostile: [hostile] * n})
    page = saved(render(data), tmp_path / "report.html")
    drawn = drawn_page(page, tmp_path / "profile")
    for name, marks in {
        "uncertainty": "js-line",
        "gain": "js-line" if n > 1 else "point",
        "cumulative": "js-line",
        "map": "point",
        "seconds": "bars",
        "targets": "bars",
        "mix-0": "bars",
    }.items():
        chart = drawn_chart(drawn, name)
        assert 'class="main-svg"' in chart
        assert f'class="{marks}' in chart or f'class="trace {marks}' in chart, f"{name} drew no {marks}"
    assert drawn.count('data-name="Pick"') == min(n, 200)
    assert "<title>a selection</title>" in drawn
    assert "<img" not in drawn


@pytest.mark.cluster
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_pictures_are_in_the_table(tmp_path: Path):
    data = make_report_data(3, columns={"image": [encoded((8, 8)), None, encoded((300, 9), "JPEG")]})
    drawn = drawn_page(saved(render(data), tmp_path / "report.html"), tmp_path / "profile")
    assert drawn.count('<img src="data:image/') == 2


@pytest.mark.cluster
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("n", [1, 100])
def test_a_phone_need_not_scroll_sideways(n: int, tmp_path: Path):
    long = "a-name-without-any-space-" * 6
    data = make_report_data(
        n,
        title=long,
        ids=[long] * n,
        facts={long: long},
        warnings=[long],
        uses=[Use(long, 12345678, 23456, 23456789, "tokens"), Use(long, 1, least=2)],
    )
    page = saved(render(data), tmp_path / "report.html")
    assert hidden_width(page, 375, tmp_path) == 0
    wide = page.read_text().replace("<main>", "<main><div style='width: 400px'>wide</div>")
    (tmp_path / "wide.html").write_text(wide)
    assert hidden_width(tmp_path / "wide.html", 375, tmp_path) > 0


@pytest.mark.cluster
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_on_a_phone_nothing_of_a_pick_is_beyond_the_edge(tmp_path: Path):
    page = saved(render(make_report_data(3, columns={"text": ["word " * 60] * 3})), tmp_path / "report.html")
    # The table of picks scrolls by itself where it is wider than its frame; as cards it is not.
    script = """<script>
        const scroll = document.querySelector('.cards'), row = scroll.querySelector('tbody tr');
        const height = (cell) => cell.getBoundingClientRect().top;
        const seen = [...row.children].filter((cell) => cell.offsetHeight).sort((a, b) => height(a) - height(b));
        const hidden = scroll.scrollWidth - scroll.clientWidth;
        document.title = `${hidden} ${getComputedStyle(row).display} ${seen[0].dataset.name}`;
        </script></body>"""
    measured = page.read_text().replace("Content-Security-Policy", "unused").replace("</body>", script)
    frame = tmp_path / "frame.html"
    text = json.dumps(measured).replace("<", "\\u003c")
    frame.write_text(
        "<!doctype html><body><iframe id=f style='border:0;width:390px;height:900px'></iframe><script>"
        f"f.srcdoc = {text}; f.onload = () => setTimeout(() => {{ document.title = f.contentDocument.title; }}, 3000);"
        "</script>"
    )
    assert "<title>0 flex text</title>" in drawn_page(frame, tmp_path / "profile")
