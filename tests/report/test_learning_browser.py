"""A browser opens the page of a fine-tuning, draws every chart, and its key hides curves."""

from pathlib import Path

import pytest

from ray_itl.report.learning_page import render_learning
from tests.report.browser import BROWSER, drawn_chart, drawn_page, saved
from tests.report.learning_helpers import make_learning_report, with_goals

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")]


@pytest.mark.parametrize(("num_variants", "r", "num_seeds"), [(1, 4, 1), (7, 20, 10), (12, 20, 3)])
def test_charts_are_drawn(num_variants: int, r: int, num_seeds: int, tmp_path: Path):
    report = make_learning_report(num_variants, r, num_seeds=num_seeds, title="<img src=x onerror=alert(1)>")
    drawn = drawn_page(saved(render_learning(report), tmp_path / "page.html"), tmp_path / "profile")
    guides = {"score": int(num_variants > 1), "on-task": 1, "variance": 0, "drift": 0}
    for name, guide in guides.items():
        lines = drawn_chart(drawn, name).count('class="js-line"')
        bands = num_variants if num_seeds > 1 and name in ("score", "on-task") else 0
        assert lines >= num_variants + guide, f"{name} drew {lines} lines"
        assert drawn_chart(drawn, name).count('class="js-fill"') == bands
    assert 'class="trace bars"' in drawn_chart(drawn, "seconds")
    assert "<img" not in drawn


def test_the_key_hides_a_variant_on_every_chart(tmp_path: Path):
    page = saved(render_learning(with_goals(make_learning_report(3))), tmp_path / "page.html")
    before = drawn_page(page, tmp_path / "profile")
    # A click by a script of ours, which the page's policy would refuse.
    press = "<script>document.querySelector('button.variant').click()</script></body>"
    text = page.read_text().replace("Content-Security-Policy", "unused").replace("</body>", press)
    page.write_text(text)
    after = drawn_page(page, tmp_path / "profile")
    released = '<button type="button" class="variant" data-variant="variant-0" aria-pressed="false">'
    assert released not in before
    assert released in after
    for name in ("score", "on-task", "variance", "drift"):
        counts = [drawn_chart(drawn, name).count("trace scatter") for drawn in (before, after)]
        assert counts[0] - counts[1] == (2 if name in ("score", "on-task") else 1), name
