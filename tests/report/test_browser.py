"""A browser opens the page and draws every chart."""

from pathlib import Path

import pytest

from ray_itl.report import write_report
from tests.report.browser import BROWSER, drawn_chart, drawn_page
from tests.report.helpers import make_report_data


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("n", [1, 100, 10_000])
def test_charts_and_table_are_drawn(n: int, tmp_path: Path):
    hostile = "</script><img src=x onerror=document.title='hacked'>"
    data = make_report_data(n, ids=[hostile] * n, columns={hostile: [hostile] * n})
    page = write_report(data, tmp_path / "report.html")
    drawn = drawn_page(page, tmp_path / "profile")
    for name, marks in {
        "uncertainty": "js-line",
        "gain": "js-line" if n > 1 else "point",
        "cumulative": "js-line",
        "map": "point",
        "seconds": "bars",
    }.items():
        chart = drawn_chart(drawn, name)
        assert 'class="main-svg"' in chart
        assert f'class="{marks}' in chart or f'class="trace {marks}' in chart, f"{name} drew no {marks}"
    assert drawn.count('<th scope="row" class="number">') + drawn.count('<th class="number" scope="row">') == min(
        n, 200
    )
    assert "<title>a selection</title>" in drawn
    assert "<img" not in drawn
