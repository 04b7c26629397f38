"""The words follow from the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from ray_itl.report.learning_data import LearningReport, LearningRow
from ray_itl.report.learning_words import decimals, headline, num_alike, seeds, tiles, times, with_error
from tests.report.learning_helpers import make_learning_curve, make_learning_report


def report_of(*rows: LearningRow, reference: str | None = "random", **changes) -> LearningReport:
    curves = [make_learning_curve(row.name, 5, 1.0) for row in rows]
    return make_learning_report(1, curves=curves, rows=rows, reference=reference, drift={}, variance={}, **changes)


ITL = LearningRow("ITL", 0.912, 0.004, 310, 5, 120, 400 / 120)
VTL = LearningRow("VTL", 0.907, 0.004, 290, 5, 150, 400 / 150)
RANDOM = LearningRow("random", 0.872, 0.004, 60, 3, 390, 400 / 390)


def test_headline_says_who_saves_most():
    expected = "ITL reaches random's final accuracy (0.872) with 120 of 400 labels: 3.3 times fewer."
    assert headline(report_of(RANDOM, VTL, ITL)) == expected


def test_of_equal_savings_the_better_end_leads():
    tied = VTL._replace(labels_needed=120, score=0.95)
    assert headline(report_of(ITL, tied, RANDOM)).startswith("VTL")
    assert headline(report_of(ITL, tied, RANDOM, higher_is_better=False)).startswith("ITL")


@pytest.mark.parametrize("needed", [None, 400])
def test_headline_claims_no_saving_where_there_is_none(needed: int | None):
    late = [row._replace(labels_needed=needed, ratio=None) for row in (ITL, VTL)]
    end = "random's final accuracy (0.872) with fewer than 400 labels."
    assert headline(report_of(RANDOM, late[0])) == f"ITL does not reach {end}"
    assert headline(report_of(RANDOM, *late)) == f"None of the 2 other variants reaches {end}"
    assert [tile.label for tile in tiles(report_of(RANDOM, *late))] == [
        "Best final accuracy", "Picks on task", "Labels", "Time",
    ]  # fmt: skip


def test_headline_when_training_does_harm():
    report = report_of(ITL._replace(labels_needed=0, ratio=None), RANDOM)
    assert headline(report) == "ITL has random's final accuracy (0.872) before its first label."


def test_headline_without_a_reference():
    start = "ITL ends with the best accuracy of 2 variants: 0.912 ±\u00a00.004 after 400 labels"
    far = VTL._replace(score=0.8)
    assert headline(report_of(far, ITL, reference=None)) == f"{start}."
    assert headline(report_of(VTL, ITL, reference=None)) == f"{start}, though 1 of the others may be as good."


def test_lower_may_be_better():
    report = report_of(ITL, RANDOM, reference=None, higher_is_better=False, score_name="bits per byte")
    assert headline(report).startswith("random ends with the best bits per byte of 2 variants: 0.872")


@pytest.mark.parametrize(
    ("score", "higher", "expected"),
    [
        ([0.25, 0.5], True, "ITL takes accuracy from 0.2500 to 0.5000 with 20 labels."),
        ([0.25, 0.5], False, "ITL takes accuracy from 0.2500 to 0.5000 with 20 labels, which is worse."),
        ([0.5, 0.5], True, "ITL takes accuracy from 0.5000 to 0.5000 with 20 labels, unchanged."),
        ([np.nan, 0.5], True, "ITL ends with accuracy 0.5000 after 20 labels."),
    ],
)
def test_headline_of_one_variant(score: list[float], higher: bool, expected: str):
    curve = make_learning_curve("ITL", 2, 1.0, num_seeds=1, budget=20)
    curve = replace(curve, score=np.array(score))
    row = LearningRow("ITL", score[-1], None, 3, None)
    report = make_learning_report(1, curves=[curve], rows=[row], higher_is_better=higher, drift={}, variance={})
    assert headline(report) == expected


def test_headline_of_one_round():
    curve = make_learning_curve("ITL", 1, 1.0, num_seeds=1)
    report = make_learning_report(
        1, curves=[curve], rows=[LearningRow("ITL", 0.2, None, 0, None)], drift={}, variance={}
    )
    assert headline(report) == "ITL ends with accuracy 0.2000 after 0 labels."
    assert "Picks on task" not in [tile.label for tile in tiles(report)]


def test_tiles_hold_the_best_against_the_reference():
    shown = {tile.label: (tile.value, tile.note) for tile in tiles(report_of(ITL, VTL, RANDOM))}
    note = "ITL (1 more within two standard errors); random: 0.872 ±\u00a00.004"
    assert shown["Best final accuracy"] == ("0.912 ±\u00a00.004", note)
    assert shown["Labels needed"] == ("120", "ITL, to match random")
    assert shown["Picks on task"] == ("310", "ITL: 77.5% of its picks")
    assert shown["Labels"] == ("400", "in 4 rounds")


def test_alike_needs_errors_on_both_sides():
    assert num_alike(report_of(ITL, VTL, RANDOM)) == 1
    assert num_alike(report_of(ITL, VTL._replace(score_error=None), RANDOM)) == 0
    assert num_alike(report_of(ITL, VTL._replace(score_error=float("nan")), RANDOM)) == 0


@pytest.mark.parametrize(
    ("values", "errors", "digits"),
    [
        ([0.87], [0.0041], 3),
        ([0.87], [0.0014], 4),
        ([312.4], [5.1], 0),
        ([312.4], [1.4], 1),
        ([0.87], [None], 4),
        ([1.2345], [float("nan")], 3),
        ([3.0, 12.0], [None, None], 0),
        ([0.0], [0.0], 0),
        ([float("nan")], [None], 0),
        ([1e-9], [None], 6),
    ],
)
def test_decimals(values: list[float], errors: list[float | None], digits: int):
    assert decimals(values, errors) == digits


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.87234, 0.0041, "0.872 ±\u00a00.004"),
        (0.87234, 0.0001, "0.872 ±\u00a0under 0.001"),
        (0.87234, 0.0, "0.872 ±\u00a00.000"),
        (0.87234, None, "0.872"),
        (0.87234, float("nan"), "0.872"),
        (float("nan"), None, "unknown"),
    ],
)
def test_with_error(value: float, error: float | None, text: str):
    assert with_error(value, error, 3) == text


@pytest.mark.parametrize(("ratio", "text"), [(3.333, "3.3"), (9.96, "10"), (1234.5, "1,234"), (0.5, "0.5")])
def test_times(ratio: float, text: str):
    assert times(ratio) == text


def test_seeds_warn_of_chance():
    assert seeds(make_learning_report(2, num_seeds=1)) == "One seed each: differences may be chance."
    assert seeds(make_learning_report(1, num_seeds=1)) == "One seed."
    assert seeds(make_learning_report(2, num_seeds=3)) == "Means and standard errors over 3 seeds."
    report = make_learning_report(2, num_seeds=3)
    mixed = [replace(report.curves[0], num_seeds=1), report.curves[1]]
    assert seeds(replace(report, curves=mixed)) == "Means and standard errors over 1 to 3 seeds."
