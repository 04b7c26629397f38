"""The page is whole, safe and small."""

import base64
import hashlib
import re
import sys

import numpy as np
import pytest

from ray_itl.errors import InputError, MissingExtraError
from ray_itl.report.selection_charts import sensible_end
from ray_itl.report.selection_data import ComparisonRow, Mix, PickReason, TargetsLeft, Use
from ray_itl.report.selection_page import render
from tests.report.helpers import make_report_data
from tests.report.pages import HOSTILE, Page
from tests.report.test_thumbnails import encoded


def hostile_page(text: str) -> Page:
    n = 3
    data = make_report_data(
        n,
        title=text,
        acquisition=text,
        ids=[text] * n,
        files=[text] * n,
        nearest_ids=[text] * n,
        columns={text: [text] * n},
        facts={text: text},
        warnings=[text],
        stage_seconds={text: 1.0},
        comparison=[ComparisonRow(text, 0.25, 1, 0.5)],
        targets_left=TargetsLeft([text] * 40, np.ones(40)),
        mixes=[Mix(text, [text, "x"], [0.5, 0.5], [1.0, 0.0], 9)],
        uses=[Use(text, 1, 2, 3, text)] * 20,
        reasons=[PickReason([(text, 1.0)], [(text, 1.0)], (text, 1.0), (text, 1.0))] * n,
        comparison_caption=text,
    )
    return Page(render(data))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_element(text: str):
    hostile, harmless = hostile_page(text), hostile_page("harmless")
    assert hostile.shape == harmless.shape
    assert hostile.running == harmless.running
    assert hostile.cells("Id") == [text] * 3


def test_hover_text_is_escaped_for_plotly_too():
    page = hostile_page("<b>bold</b>")
    (picks,) = [trace for trace in page.figure("map")["data"] if trace["meta"] == "pick"]
    assert "&lt;b&gt;bold&lt;/b&gt;" in picks["text"][0]
    assert "<b>" not in picks["text"][0]


def test_loads_nothing():
    assert Page(render(make_report_data())).loading == []
    style = render(make_report_data()).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_policy_names_exactly_the_scripts_of_the_page():
    page = Page(render(make_report_data()))
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.running]
    assert len(digests) == 2
    assert f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}';" in page.policy
    assert page.policy.startswith("default-src 'none';")


@pytest.mark.parametrize("n", [1, 10_000])
def test_any_number_of_picks_fits(n: int):
    long_text = "text with some words " * 40
    text = render(make_report_data(n, columns={"text": [f"{k} {long_text}" for k in range(n)]}))
    assert len(text.encode()) < 8_000_000
    page = Page(text)
    assert page.cells("Id") == [f"row-{k}" for k in range(n)]
    assert "cut short" in page.table["note"]
    assert page.cells("text")[n - 1].startswith(f"{n - 1} text with")


def test_of_many_picks_the_foremost_target_is_named() -> None:
    targets = [("a", 0.5), ("b", 0.25), ("c", 0.125)]
    for n, names in ((2000, "a (0.50), b (0.25), c (0.12)"), (2001, "a (0.50)")):
        page = Page(render(make_report_data(n, reasons=[PickReason(targets, targets, None, None)] * n)))
        assert page.cells("Nearest targets (cosine)") == [names] * n


def test_only_rules_that_look_for_information_about_targets_are_said_to() -> None:
    assert (
        "2 rows picked from 1,000,000, each most informative about 30 targets"
        in Page(render(make_report_data(2, acquisition="vtl"))).text
    )
    text = Page(render(make_report_data(2, acquisition="nearest", is_directed=False))).text
    assert "2 rows picked from 1,000,000 by nearest: 3 nats of information about 30 targets, with" in text


def test_columns_that_cannot_fit_are_named():
    n = 10_000
    columns = {f"column {k}": [f"{k} {j} unlike all others" for j in range(n)] for k in range(30)}
    table = Page(render(make_report_data(n, columns=columns))).table
    shown = {column["name"] for column in table["columns"]}
    assert "column 0" in shown
    assert "column 29" not in shown
    assert "column 29" in table["note"]


def test_says_what_happened_in_order():
    text = render(make_report_data(5, num_asked=8, warnings=["beware of the pool"]))
    words = " ".join("".join(Page(text).words).split())
    places = [
        words.index(part)
        for part in (
            "5 rows (8 were asked for) picked from 1,000,000",
            "beware of the pool",
            "Information gained",
            "Uncertainty left",
            "Where the picks lie",
            "Search the picks",
            "Noise variance",
        )
    ]
    assert places == sorted(places)


def test_values_of_every_kind_have_a_text():
    values = [None, float("nan"), b"\xff", np.float32(0.25), [1, 2], True, "\ud800"]
    data = make_report_data(len(values), columns={"any": values})
    cells = Page(render(data).encode("utf-8", errors="replace").decode()).cells("any")
    assert cells == ["", "nan", "\ufffd", "0.25", "[1, 2]", "True", "?"]


def test_variance_as_the_unit():
    words = "".join(Page(render(make_report_data(gain_unit="variance"))).words)
    assert "Variance removed" in words
    assert "nats" not in words


def test_a_page_can_be_written_whatever_its_ids_hold():
    page = render(make_report_data(ids=["half \ud800"] * 5))
    assert page.startswith("<!doctype html>")
    assert page.encode().decode() == page
    assert "half ?" in page


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'{package}.*pip install "ray_itl\[report\]"'):
        render(make_report_data())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ids": ["one"]}, "ids has 1"),
        ({"columns": {"label": []}}, "label"),
        ({"remaining_uncertainty": np.ones(5)}, "remaining_uncertainty"),
        ({"map_pool": np.zeros((3, 3))}, "map_pool"),
        ({"gain_unit": "bits"}, "bits"),
        ({"reasons": []}, "reasons has 0"),
        ({"gains": np.zeros(0)}, "at least one pick"),
    ],
)
def test_inconsistent_data_is_refused(changes: dict, named: str):
    with pytest.raises(InputError, match=named):
        make_report_data(5, **changes)


def test_the_comparison_says_what_each_way_leaves_and_how_much_is_on_task():
    words = Page(render(make_report_data())).text
    assert "Uncertainty left On task Share ITL 25% 4 80% random 50% 1 20%" in words


def test_the_targets_of_which_most_is_left_are_named():
    left = np.linspace(0.0, 0.5, 100_000)
    data = make_report_data(targets_left=TargetsLeft(range(100_000), left))
    page = Page(render(data))
    assert "Target Uncertainty left 99999 50% 99998 50%" in page.text
    (bars,) = page.figure("targets")["data"]
    assert sum(bars["y"]) == 100_000
    few = Page(render(make_report_data(targets_left=TargetsLeft(["a", "b", "c"], np.array([0.1, 0.9, 0.2])))))
    assert few.figure("targets")["layout"]["yaxis"]["ticktext"] == ["b", "c", "a"]
    assert "say least about Share" not in few.text


def test_the_mix_is_drawn_for_picks_and_pool():
    page = Page(render(make_report_data(mixes=[Mix("<b>", ["<i>", "y"], [1.0, 0.0], [0.5, 0.5], 9)])))
    assert [trace["name"] for trace in page.figure("mix-0")["data"]] == ["picks", "pool"]
    assert page.figure("mix-0")["data"][0]["text"][0] == "&lt;i&gt;: 100% of the picks"


def test_reasons_are_in_the_table_and_the_nearest_target_alone_without_them():
    page = Page(render(make_report_data(3)))
    assert page.cells("Nearest targets (cosine)")[0] == "target-1 (0.91), target-2 (0.50)"
    assert page.cells("Says most about (share of gain)")[2] == "target-3 (45%)"
    assert page.cells("Most like earlier pick (cosine)") == ["", "row-0 (0.700)", "row-1 (0.700)"]
    assert (page.cells("Runner-up")[1], page.cells("Ahead of it by")[1]) == ("other-1", "0.0025")
    assert Page(render(make_report_data(3, reasons=None))).cells("Nearest target")[0] == "target-0"


def test_the_gain_chart_marks_where_to_stop():
    data = make_report_data(200, gains=np.exp(-np.arange(200) / 10.0))
    curve, mark = Page(render(data)).figure("gain")["data"]
    end = sensible_end(data.gains)
    assert end is not None
    assert (curve["meta"], mark["meta"], mark["x"]) == ("gain", "guide", [end.picks, end.picks])
    assert len(Page(render(make_report_data(200, gains=np.ones(200)))).figure("gain")["data"]) == 1


def test_the_map_shows_the_beginning_of_the_longest_text():
    columns = {"source": ["web"] * 5, "text": ["<b>" + "word " * 100] * 5}
    (picks,) = [t for t in Page(render(make_report_data(columns=columns))).figure("map")["data"] if t["meta"] == "pick"]
    assert "<br>&lt;b&gt;word word" in picks["text"][0]
    assert len(picks["text"][0]) < 400


def test_targets_are_shown_and_not_only_named() -> None:
    left = TargetsLeft(
        [f"t{k}" for k in range(5)], np.array([0.1, 0.5, 0.3, 0.2, 0.4]), {1: "<b>a tall story</b>", 4: 7}
    )
    texts = ["<i>near</i>", "far " * 100, None]
    page = Page(render(make_report_data(3, targets_left=left, nearest_shown=texts, reasons=None)))
    assert page.cells("Nearest target") == ["<i>near</i>", "far " * 29 + "far…", ""]
    assert page.cells("Nearest target, id")[0] == "target-0"
    start = page.text.index("Targets that the picks say least about")
    assert re.search(r"<b>a tall story</b> t1 50% t4 40% t2 30%", page.text[start:])
    assert ("b", {}) not in page.elements


def test_pictures_of_targets_are_made_once_each() -> None:
    picture, other = encoded((20, 20)), encoded((30, 30))
    left = TargetsLeft(["t0", "t1"], np.array([0.1, 0.5]), {0: picture, 1: {"bytes": other}})
    shown = [picture, {"bytes": other}, picture, None] * 5
    page = Page(render(make_report_data(20, targets_left=left, nearest_shown=shown, reasons=None)))
    column = next(column for column in page.table["columns"] if column["name"] == "Nearest target")
    assert column["image"]
    assert len(column["values"]) == 3
    assert [bool(text) for text in page.cells("Nearest target")[:4]] == [True, True, True, False]
    assert [tag for tag, _ in page.elements].count("img") == 2
