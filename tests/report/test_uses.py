"""Budget and quotas: what was used of each, the missed ones first, however many there are."""

import numpy as np

from ray_itl.report.selection_data import Use
from ray_itl.report.selection_page import FIRST_USES, MAX_USES, render, shown_uses
from tests.report.helpers import make_report_data
from tests.report.pages import Page


def test_the_page_says_what_is_used_and_allowed_the_missed_first() -> None:
    page = Page(render(make_report_data()))
    words = page.text
    assert "1 minimum was not met" in words
    assert (
        "Limit Used Allowed Share language=de 3 at least 5 2 short budget 81,234 tokens at most 100,000 tokens 81.2%"
        in words
    )
    rows = [attributes.get("class") for tag, attributes in page.elements if tag == "tr"]
    assert rows.count("unmet") == 1
    assert "Budget and quotas" not in Page(render(make_report_data(uses=[]))).text


def test_missed_by_most_then_minimums_then_used_most() -> None:
    uses = [Use("half", 5, most=10), Use("near", 9, 10), Use("full", 4, 1, 4), Use("far", 1, 10, 20), Use("met", 3, 3)]
    shown = shown_uses(uses)
    assert [use.name for use in shown.first] == ["far", "near", "full", "met", "half"]
    assert [use.verdict for use in shown.first] == ["9 short", "1 short", "used up", "met", "50%"]
    assert [use.allowed for use in shown.first] == ["10 to 20", "at least 10", "1 to 4", "at least 3", "at most 10"]
    assert [(use.width, use.minimum) for use in shown.first[:3]] == [
        ("5.0%", "50.0%"), ("90.0%", "100.0%"), ("100.0%", "25.0%"),
    ]  # fmt: skip
    assert shown_uses([Use("site", 7, most=7), Use("budget", 1, most=9, unit="tokens")]).first[0].name == "budget"
    nothing = shown_uses([Use("none", 0, most=0), Use("free", 7)]).first
    assert [(use.allowed, use.verdict, use.width) for use in nothing] == [
        ("at most 0", "used up", "0.0%"), ("", "", "100.0%"),
    ]  # fmt: skip


def test_of_many_quotas_the_page_holds_some_and_counts_the_rest() -> None:
    used = np.random.default_rng(0).permutation(5000).tolist()
    page = Page(render(make_report_data(uses=[Use(f"site={k}", k, most=5000) for k in used])))
    assert sum(attributes.get("class") == "track" for _, attributes in page.elements) <= MAX_USES + 20
    words = page.text
    assert f"{MAX_USES - FIRST_USES} more, used less" in words
    assert f"{5000 - MAX_USES:,} limits of which still less is used" in words
    assert words.index("site=4999") < words.index("site=4998")
    assert "site=10 " not in words
