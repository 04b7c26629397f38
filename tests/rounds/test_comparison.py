"""Means, areas, labels needed and savings of a sweep, against values worked out by hand and laws of bootstraps."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.rounds.comparison import Comparison, compare
from ray_itl.rounds.scores import Score
from ray_itl.rounds.seed_curves import gaps, mean_curves, seed_curves
from ray_itl.rounds.sweep_table import sweep_figures, sweep_text

ACCURACY = Score("accuracy", True)
Scores = dict[str, list[list[float]]]


def sweep_table(scores: Scores, batch: int = 10) -> pa.Table:
    """One row a variant, seed and round; ten labels a round, of which as many as the seed's number are on task."""
    rows = [
        {
            "variant": variant,
            "seed": seed,
            "round": number,
            "num_labelled": batch * number,
            "num_on_task": seed * number,
            "heldout.accuracy": score,
        }
        for variant, curves in scores.items()
        for seed, curve in enumerate(curves)
        for number, score in enumerate(curve)
    ]
    return pa.Table.from_pylist(rows)


def compared(scores: Scores, *references: str, higher_is_better: bool = True) -> Comparison:
    curves = seed_curves(sweep_table(scores), "heldout.accuracy")
    return compare(curves, higher_is_better, references or ("random",))


SCORES: Scores = {
    "random": [[0.1, 0.4, 0.6], [0.3, 0.4, 0.8]],
    "itl": [[0.1, 0.8, 0.9], [0.3, 0.7, 0.7]],
    "worse": [[0.1, 0.1, 0.2], [0.1, 0.2, 0.2]],
}


def test_means_and_standard_errors() -> None:
    random, itl, _ = mean_curves(seed_curves(sweep_table(SCORES), "heldout.accuracy"))
    assert (random.name, random.num_seeds, itl.name) == ("random", 2, "itl")
    np.testing.assert_allclose(random.score, [0.2, 0.4, 0.7])
    # Of two values, the standard error is half their distance.
    assert random.score_error is not None
    np.testing.assert_allclose(random.score_error, [0.1, 0.0, 0.1])
    np.testing.assert_allclose(itl.on_task, [0, 0.5, 1.0])
    np.testing.assert_array_equal(itl.num_labelled, [0, 10, 20])


def test_endings_beside_random() -> None:
    random, itl, worse = compared(SCORES).rows
    assert (random.labels_needed, random.ratio) == (20, 1.0)
    assert (itl.labels_needed, itl.ratio) == (10, 2.0)
    assert itl.score == pytest.approx(0.8)
    assert (worse.labels_needed, worse.ratio) == (None, None)
    # Trapezoids of the means: (0.2 + 0.4) / 2 and (0.4 + 0.7) / 2, half the budget each.
    assert random.area == pytest.approx((0.3 + 0.55) / 2)
    assert random.area_error == pytest.approx(abs((0.25 + 0.5) / 2 - (0.35 + 0.6) / 2) / 2)


def test_differences_are_of_pairs() -> None:
    _, itl, worse = compared(SCORES, "random", "worse", "none of this name").rows
    beside_random, beside_worse = itl.beside
    assert (beside_random.reference, beside_worse.reference) == ("random", "worse")
    assert beside_random.score == pytest.approx((0.3 - 0.1) / 2)
    assert beside_random.score_error == pytest.approx((0.3 + 0.1) / 2)
    assert [beside.reference for beside in worse.beside] == ["random"]


def test_goals_and_labels_until_them() -> None:
    found = compared(SCORES)
    assert [goal.score for goal in found.goals] == pytest.approx([0.64, 0.72, 0.76])  # of 0.8
    random, itl, worse = found.rows
    assert [needed.labels for needed in random.needed] == [20, math.inf, math.inf]
    assert [needed.labels for needed in itl.needed] == [10, 10, 20]
    assert [needed.labels for needed in worse.needed] == [math.inf] * 3
    assert [saving.times for saving in itl.beside[0].savings] == [2.0, math.inf, math.inf]
    assert worse.beside[0].savings[0].times == 0.0
    assert math.isnan(worse.beside[0].savings[2].times)


def test_lower_may_be_better() -> None:
    bits: Scores = {"random": [[2.0, 1.5, 1.4], [2.0, 1.7, 1.4]], "itl": [[2.0, 1.2, 1.0], [2.0, 1.2, 1.0]]}
    found = compared(bits, higher_is_better=False)
    assert [goal.score for goal in found.goals] == pytest.approx([1.2, 1.1, 1.05])  # of 2.0 - 1.0
    random, itl = found.rows
    assert [needed.labels for needed in itl.needed] == [10, 20, 20]
    assert random.needed[0].labels == math.inf
    assert (random.labels_needed, itl.labels_needed) == (20, 10)
    text = sweep_text(found, Score("bits_per_byte", False))
    assert "80% of the best improvement" in text
    assert "(bootstrap over seeds, every seed moved to the mean start)" in text
    assert (
        "itl reaches bits per byte 1.2000 (80% of the best improvement) with 10 labels; random never does: 2.0" in text
    )


def test_seeds_that_are_harder_tasks_blur_no_goal() -> None:
    """Two topics, whose levels differ by ten times what training changes, and on which it changes the same."""
    bits: Scores = {"random": [[2.0, 1.96, 1.9], [1.0, 0.96, 0.9]], "itl": [[2.0, 1.9, 1.88], [1.0, 0.9, 0.88]]}
    random, itl = compared(bits, higher_is_better=False).rows
    assert (itl.score, random.needed[0].labels) == (pytest.approx(1.38), 20)
    assert [(needed.labels, needed.low, needed.high) for needed in itl.needed] == [
        (10, 10, 10),
        (20, 20, 20),
        (20, 20, 20),
    ]
    saving = itl.beside[0].savings[0]
    assert (saving.times, saving.low, saving.high) == (2.0, 2.0, 2.0)


def test_a_seed_that_is_missing_does_not_count_as_a_better_score() -> None:
    """Of the easier topic alone a variant has scores far below the other's, and needs as many labels."""
    bits: Scores = {"random": [[1.0, 0.95, 0.9], [2.0, 1.95, 1.9]], "itl": [[1.0, 0.95, 0.9]]}
    random, itl = compared(bits, higher_is_better=False).rows
    assert [needed.labels for needed in itl.needed] == [needed.labels for needed in random.needed] == [20, 20, 20]
    assert (itl.labels_needed, itl.score) == (20, pytest.approx(0.9))


def test_one_seed_has_neither_errors_nor_intervals() -> None:
    found = compared({"random": [[0.5, 0.6]], "itl": [[0.5, 0.7]]})
    _, itl = found.rows
    errors = [
        itl.score_error,
        itl.area_error,
        itl.beside[0].score_error,
        itl.needed[0].low,
        itl.beside[0].savings[0].low,
    ]
    assert all(error is not None and math.isnan(error) for error in errors)
    assert "±" not in sweep_text(found, ACCURACY).replace("mean ±", "").replace("difference ±", "")


def test_seeds_that_did_less_are_left_out_and_named() -> None:
    more = {"random": [[0.1, 0.4, 0.6], [0.3, 0.4]], "itl": [[0.1, 0.8, 0.9], [0.3, 0.7, 0.7], [0.2, 0.5, 0.8]]}
    curves = seed_curves(sweep_table(more), "heldout.accuracy")
    assert [curve.seeds.tolist() for curve in curves] == [[0], [0, 1, 2]]
    assert gaps(curves) == ["random lacks seeds 1 to 2, not finished: its figures are of 1 seed"]
    asked = {"random": range(1), "itl": range(5), "vtl": range(2)}
    assert [words.partition(", not")[0] for words in gaps(curves, asked)] == [
        "itl lacks seeds 3 to 4",
        "vtl lacks seeds 0 to 1",
    ]
    _, itl = compare(curves, True, ["random"]).rows
    assert (itl.beside[0].num_seeds, itl.beside[0].score) == (1, pytest.approx(0.3))
    assert sweep_text(compare(curves, True, ["random"]), ACCURACY, gaps(curves)).startswith("Note: random lacks")


def test_points_without_a_score_are_left_out() -> None:
    table = sweep_table(SCORES)
    unscored = [
        None if number == 0 else score
        for number, score in zip(table["round"].to_pylist(), table["heldout.accuracy"].to_pylist(), strict=True)
    ]
    found = compare(
        seed_curves(table.set_column(5, "heldout.accuracy", pa.array(unscored)), "heldout.accuracy"), True, []
    )
    assert [curve.num_labelled.tolist() for curve in found.curves] == [[10, 20]] * 3
    assert found.rows[0].area == pytest.approx(0.55)


def test_budgets_and_batches_may_differ() -> None:
    fine, coarse = sweep_table({"fine": [[0.1, 0.4, 0.6, 0.7]]}), sweep_table({"coarse": [[0.1, 0.6]]}, batch=20)
    found = compare(seed_curves(pa.concat_tables([fine, coarse]), "heldout.accuracy"), True, ["fine"])
    assert found.budget == 20
    assert found.rows[1].beside[0].score == pytest.approx(0.0)
    assert found.rows[0].area == pytest.approx((0.25 + 0.5) / 2)
    assert "After 20 to 30 labels" in sweep_text(found, ACCURACY)


def test_the_interval_of_a_clear_saving_does_not_hold_1() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(21)
    fast, slow = (
        [(0.3 + 0.6 * (1 - np.exp(-labels / t)) + 0.01 * rng.normal(size=21)).tolist() for _ in range(10)]
        for t in (3, 9)
    )
    _, itl = compared({"random": slow, "itl": fast}).rows
    saving = itl.beside[0].savings[0]
    assert 1.5 < saving.low <= saving.times <= saving.high < 6


def test_an_interval_has_room_for_what_a_budget_hides() -> None:
    """Of two seeds the reference gets there with one alone: in half of the draws it is only known to need more."""
    scores: Scores = {"random": [[0.0, 0.5, 1.0], [0.0, 0.5, 0.5]], "itl": [[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]}
    _, itl = compared(scores).rows
    saving = itl.beside[0].savings[2]
    assert (saving.times, saving.low, saving.high) == (math.inf, 2.0, math.inf)
    assert "random never does: 2.0 times fewer than its 20 at least (95% interval: at least 2.0)" in sweep_text(
        compared(scores), ACCURACY
    )


def test_a_sentence_counts_the_labels_of_the_seeds_that_both_have() -> None:
    """By all of its seeds the variant never gets there; by the one that it shares with the reference it does."""
    scores: Scores = {"best": [[0.0, 1.0, 1.0]], "random": [[0.0, 0.5, 0.5]], "itl": [[0.0, 0.5, 0.8], [0.0, 0.1, 0.1]]}
    found = compared(scores)
    row = next(row for row in found.rows if row.name == "itl")
    assert row.needed[0].labels == math.inf
    assert (row.beside[0].savings[0].times, row.beside[0].savings[0].labels) == (math.inf, 20)
    assert "itl reaches accuracy 0.8000 (80% of the best) with 20 labels; random never does: 1.0" in sweep_text(
        found, ACCURACY
    )


def test_an_interval_does_not_show_more_than_the_budget() -> None:
    """Of draws of the first seed alone the variant gets there at once; by the mean it takes the whole budget."""
    scores: Scores = {"random": [[0.0, 0.0, 0.0]] * 3, "itl": [[0.0, 0.9, 1.0], [0.0, 0.9, 1.0], [0.0, 0.55, 1.0]]}
    _, itl = compared(scores).rows
    saving = itl.beside[0].savings[0]
    assert (saving.times, saving.labels) == (math.inf, 20)
    assert saving.low == 1.0


@given(st.lists(st.lists(st.floats(0, 1, width=16), min_size=4, max_size=4), min_size=2, max_size=4))
def test_a_variant_beside_its_like_needs_as_many(curves: list[list[float]]) -> None:
    """The same draws for both: an interval is 1 however the curves waver, but for draws in which neither gets there."""
    _, twin = compared({"random": curves, "twin": curves}).rows
    assert twin.beside[0].score == twin.beside[0].area_error == 0
    for saving in twin.beside[0].savings:
        assert saving.times == 1.0
        assert (saving.low, saving.high) == (1.0, 1.0) or saving.low == 0.0 or saving.high == math.inf


_SIXTEENTHS = st.integers(0, 64).map(lambda count: count / 16)  # so that no sum is rounded
_BITS = st.lists(st.lists(_SIXTEENTHS, min_size=3, max_size=3), min_size=2, max_size=2)


@given(_BITS, _BITS, _SIXTEENTHS)
def test_labels_for_an_improvement_do_not_depend_on_how_hard_a_seed_is(
    random: list[list[float]], itl: list[list[float]], moved: float
) -> None:
    def apart(curves: list[list[float]]) -> list[list[float]]:
        return [[score + move for score in curve] for curve, move in zip(curves, (moved, -moved), strict=True)]

    as_they_are, further_apart = (
        compared(scores, higher_is_better=False).rows
        for scores in ({"random": random, "itl": itl}, {"random": apart(random), "itl": apart(itl)})
    )
    for one, other in zip(as_they_are, further_apart, strict=True):
        assert [repr(needed) for needed in one.needed] == [repr(needed) for needed in other.needed]  # nan is nan
        assert [repr(beside.savings) for beside in one.beside] == [repr(beside.savings) for beside in other.beside]


@given(st.permutations(range(6)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    table = sweep_table({"random": SCORES["random"]})
    one, other = (
        compare(seed_curves(each, "heldout.accuracy"), True, ["random"]) for each in (table, table.take(order))
    )
    assert sweep_figures(one, ACCURACY) == sweep_figures(other, ACCURACY)


def test_tables_and_figures() -> None:
    found = compared(SCORES, "random", "nearest")
    text = sweep_text(found, ACCURACY)
    assert text.startswith("After 20 labels, 2 seeds, mean ± standard error")
    assert "| itl | 0.8000 ± 0.1000 | 0.6250 ± 0.0250 | 1.0 ± 1.0 | 10 | 2.0 |" in text
    assert "| itl | +0.1000 ± 0.2000 |" in text
    assert "- itl needs 2.0 times fewer labels than random to reach accuracy 0.6400 (80% of the best)" in text
    assert "- worse never reaches accuracy 0.6400 (80% of the best); random does." in text
    assert "- Neither worse nor random reaches accuracy 0.7600 (95% of the best)." in text
    figures = json.loads(json.dumps(sweep_figures(found, ACCURACY), allow_nan=False))
    assert [row["variant"] for row in figures["variants"]] == ["random", "itl", "worse"]
    assert figures["variants"][2]["needed"][0]["labels"] is None
    assert figures["variants"][1]["beside"][0]["savings"][0]["times"] == 2.0
