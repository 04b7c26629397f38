"""Sentences and cells about labels needed, in every case that there is."""

from math import inf, nan

import pytest

from ray_itl.report.learning_data import Goal, Needed, Saving
from ray_itl.report.learning_savings import goal_words, needed_cell, saving_cell, saving_sentence

GOAL = "accuracy 0.8000 (90% of the best)"
CASES = {
    "fewer": (Saving(2.5, 1.5, 4.0, 40), "2.5×", "1.5 to 4.0", "2.5 times fewer labels than", "1.5 to 4.0"),
    "at least": (Saving(2.5, 1.5, inf, 40), "2.5×", "at least 1.5", "2.5 times fewer labels than", "at least 1.5"),
    "one seed": (Saving(2.5, nan, nan, 40), "2.5×", "", "2.5 times fewer labels than", ""),
    "as many": (Saving(1.0, 0.8, 1.25, 40), "1.0×", "0.8 to 1.2", "as many labels as", "0.8 to 1.2"),
    "more": (Saving(0.5, 0.0, 0.8, 40), "0.5×", "at most 0.8", "2.0 times as many labels as", "at least 1.2"),
}


@pytest.mark.parametrize(("saving", "times", "interval", "words", "spoken"), CASES.values(), ids=list(CASES))
def test_who_needs_how_many(saving: Saving, times: str, interval: str, words: str, spoken: str) -> None:
    assert saving_cell(saving, 100) == (f"{times} ({interval})" if interval else times)
    exactly = ": 1.0 times" if saving.times == 1 else ""
    expected = f"itl needs {words} random to reach {GOAL}{exactly}{f' (95% interval: {spoken})' if spoken else ''}."
    assert saving_sentence("itl", "random", GOAL, saving, 100) == expected


@pytest.mark.parametrize(
    ("saving", "cell", "sentence"),
    [
        (Saving(nan, nan, nan, inf), "neither", f"Neither itl nor random reaches {GOAL}."),
        (Saving(0.0, 0.0, 0.0, inf), "never", f"itl never reaches {GOAL}; random does."),
        (Saving(inf, inf, inf, 0), "at once", f"itl has {GOAL} before its first label; random has not."),
        (
            Saving(inf, 2.0, inf, 40),
            "over 2.5× (at least 2.0)",
            f"itl reaches {GOAL} with 40 labels; random never does: 2.5 times fewer than its 100 at least "
            "(95% interval: at least 2.0).",
        ),
        (
            Saving(inf, inf, inf, 1),
            "over 100×",
            f"itl reaches {GOAL} with 1 label; random never does: 100 times fewer than its 100 at least.",
        ),
    ],
)
def test_who_does_not_get_there(saving: Saving, cell: str, sentence: str) -> None:
    assert saving_cell(saving, 100) == cell
    assert saving_sentence("itl", "random", GOAL, saving, 100) == sentence


def test_cells_of_labels() -> None:
    assert needed_cell(Needed(1200, 900, inf)) == "1,200 (900 to never)"
    assert needed_cell(Needed(inf, inf, inf)) == "never"
    assert needed_cell(Needed(40, nan, nan)) == "40"
    assert needed_cell(Needed(nan, nan, nan)) == "unknown"


def test_goals_say_of_what_they_are_a_share() -> None:
    assert goal_words(Goal(0.9, 0.8), "accuracy", True) == GOAL
    assert goal_words(Goal(0.8, 1.2), "bits per byte", False) == "bits per byte 1.2000 (80% of the best improvement)"
