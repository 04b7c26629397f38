"""The page of an active fine-tuning is whole, safe and readable."""

import base64
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from ray_itl.errors import InputError
from ray_itl.report.learning_data import LearningCurve, LearningReport, LearningRow, Trail
from ray_itl.report.learning_page import render_learning
from tests.report.learning_helpers import make_learning_curve, make_learning_report, with_goals
from tests.report.pages import HOSTILE, Page


def hostile_page(text: str) -> Page:
    mild = make_learning_curve("mild", 5, 1.0)
    hostile = replace(mild, name=text)
    trail = Trail(np.arange(1, 4), np.array([0.5, 0.6, 0.7]))
    report = LearningReport(
        title=text,
        score_name=text,
        higher_is_better=True,
        curves=[mild, hostile],
        rows=[LearningRow("mild", 0.9, 0.1, 20, 1, 200, 2.0), LearningRow(text, 0.8, 0.1, 10, 1, 400, 1.0)],
        reference=text,
        facts={text: text},
        warnings=[text],
        stage_seconds={text: 1.0},
        drift={text: trail},
        variance={text: trail},
    )
    return Page(render_learning(with_goals(report)))


def words_of(report: LearningReport) -> str:
    return " ".join(" ".join(Page(render_learning(report)).words).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_element(text: str):
    hostile, harmless = hostile_page(text), hostile_page("(harmless)")
    assert hostile.shape == harmless.shape
    assert hostile.running == harmless.running
    # Shown in title, heading, headline, warning, tiles, table, key, charts and facts, as it is.
    assert "".join(hostile.words).count(text) == "".join(harmless.words).count("(harmless)") >= 12


@pytest.mark.parametrize("chart", ["score", "on-task", "variance", "drift", "seconds"])
def test_text_on_charts_is_escaped_for_plotly_too(chart: str):
    figure = str(hostile_page("<b>%{x}</b>").figure(chart))
    assert "&lt;b&gt;%{x}&lt;/b&gt;" in figure
    assert "<b>" not in figure
    assert "%{x}" not in str([trace.get("hovertemplate") for trace in hostile_page("%{x}").figure(chart)["data"]])


@pytest.mark.parametrize("num_variants", [1, 12])
def test_loads_nothing_and_runs_only_its_own_scripts(num_variants: int):
    text = render_learning(make_learning_report(num_variants))
    page = Page(text)
    assert page.loading == []
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.running]
    assert len(digests) == 2
    assert f"script-src 'sha256-{digests[0]}' 'sha256-{digests[1]}';" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert len(text.encode()) < 6_000_000


def test_says_what_happened_in_order():
    words = words_of(make_learning_report(7, warnings=["beware of the seeds"]))
    parts = [
        "ITL reaches random's final accuracy",
        "beware of the seeds",
        "Best final accuracy",
        "How the variants ended",
        "How learning went",
        "Accuracy against labels",
        "Picks on task How many",
        "Uncertainty left",
        "How far the embedding moves",
        "Where the time went",
        "Facts of the run",
    ]
    places = [words.index(part) for part in parts]
    assert places == sorted(places)


def test_the_table_has_every_ending():
    report = make_learning_report(2)
    rows = [LearningRow("ITL", 0.9, 0.004, 99.4, 3.2, 120, 400 / 120), LearningRow("VTL", 0.8, 0.003, 50, 2.5)]
    words = words_of(replace(report, rows=rows)).replace("\u00a0", " ")
    assert "Variant Final accuracy Picks on task Labels needed Ratio" in words
    assert "ITL 0.900 ± 0.004 99 ± 3 120 3.3× VTL 0.800 ± 0.003 50 ± 2 never" in words


def test_labels_needed_stand_in_tables_and_sentences():
    words = words_of(with_goals(make_learning_report(2))).replace("\u00a0", " ")
    assert "Variant Final accuracy Area under the curve Picks on task" in words
    assert "Labels needed Labels until the mean accuracy reaches a share of the best score of any variant" in words
    assert "Variant 80%: 0.704 95%: 0.836 ITL 40 (30 to 60) never (100 to never)" in words
    assert "Beside VTL Differences, seed by seed" in words
    assert "ITL +0.051 ± 0.004 -0.020 ± 0.003 2.0× (at least 1.5) never" in words
    sentence = "ITL needs 2.0 times fewer labels than VTL to reach accuracy 0.7040 (80% of the best)"
    assert f"In sentences {sentence} (95% interval: at least 1.5)." in words


def test_nothing_is_measured_without_a_reference():
    words = words_of(make_learning_report(3, reference=None))
    assert "Labels needed" not in words
    assert "final score" not in words
    assert "ITL ends with the best" in words or "VTL ends with the best" in words or "CTL ends with the best" in words


def test_a_single_run_has_no_bands_no_key_and_no_comparison():
    report = make_learning_report(1, 4, num_seeds=1, drift={}, variance={}, stage_seconds={}, facts={})
    page, words = Page(render_learning(report)), words_of(report)
    assert [trace["meta"] for trace in page.figure("score")["data"]] == ["variant-reference"]
    assert "button" not in {tag for tag, _ in page.elements}
    assert "Labels needed" not in words
    assert "±" not in words
    assert "Facts of the run" not in words
    assert "How far the embedding moves" not in words


def test_bands_are_one_standard_error_where_it_is_known():
    curve = LearningCurve(
        name="ITL",
        num_labelled=np.array([0, 10, 20]),
        score=np.array([0.5, 0.6, 0.7]),
        score_error=np.array([np.nan, 0.1, 0.2]),
        on_task=np.array([0, 5, 9]),
        num_seeds=3,
    )
    report = make_learning_report(1, curves=[curve], rows=[LearningRow("ITL", 0.7, 0.2, 9, None)], reference=None)
    page = Page(render_learning(replace(report, drift={}, variance={})))
    (band,) = [trace for trace in page.figure("score")["data"] if trace["meta"].startswith("band")]
    assert decoded(band["x"]) == [10, 20, 20, 10]
    np.testing.assert_allclose(decoded(band["y"]), [0.7, 0.9, 0.5, 0.5])
    assert not [trace for trace in page.figure("on-task")["data"] if trace["meta"].startswith("band")]


def test_the_diagonal_is_every_pick_on_task():
    page = Page(render_learning(make_learning_report(3)))
    (guide,) = [trace for trace in page.figure("on-task")["data"] if trace["meta"] == "guide"]
    assert guide["x"] == guide["y"] == [0, 400]


def test_a_page_can_be_written_whatever_its_title_holds():
    assert "<title>half ?</title>" in render_learning(make_learning_report(2, title="half \ud800")).encode().decode()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"curves": []}, "at least one curve"),
        ({"rows": []}, "at least one curve and one row"),
        ({"curves": [make_learning_curve("ITL", 3, 1.0)] * 2}, "name of its own"),
        ({"rows": [LearningRow("nobody", 1, None, 1, None)]}, "rows names 'nobody'"),
        ({"reference": "nobody"}, "reference names 'nobody'"),
        ({"drift": {"nobody": Trail(np.arange(2), np.ones(2))}}, "drift names 'nobody'"),
        ({"variance": {"ITL": Trail(np.arange(2), np.ones(3))}}, "variance of 'ITL' has 3 values at 2 places"),
    ],
)
def test_inconsistent_reports_are_refused(changes: dict, named: str):
    with pytest.raises(InputError, match=named):
        make_learning_report(3, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_labelled": np.zeros(0)}, "no points"),
        ({"score": np.zeros(2)}, "score of 'ITL' has 2 values"),
        ({"on_task_error": np.zeros(9)}, "on_task_error of 'ITL' has 9 values"),
        ({"num_labelled": np.array([3, 2, 1])}, "must ascend"),
    ],
)
def test_inconsistent_curves_are_refused(changes: dict, named: str):
    with pytest.raises(InputError, match=named):
        replace(make_learning_curve("ITL", 3, 1.0), **changes)


def decoded(values: list | dict) -> list:
    """Numbers of a figure, which plotly may have packed."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return values
