from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ray_itl.core.result import GreedyStats
from ray_itl.curation.summary import summarise, warnings_about
from ray_itl.selection import Selection


def _selection(gains: list[float], left: float = 0.5, near: int = 0) -> Selection:
    flags = [i < near for i in range(len(gains))]
    table = pa.table({"id": list(range(len(gains))), "gain": gains, "near_target": flags})
    return Selection(table, "nats", np.linspace(1.0, left, len(gains) + 1), GreedyStats(), {"limits": []})


@pytest.mark.parametrize(
    ("selection", "beginnings"),
    [
        (_selection([3.0, 2.0, 1.0]), []),
        (_selection([3.0, 2.0, 0.002]), ["From pick 3 on, a pick is worth less than a thousandth of the first"]),
        (_selection([3.0, 0.5, -0.1, -0.3]), ["Pick 3 and 1 others say more about the rows to avoid"]),
        (_selection([3.0, 2.0], left=0.995), ["The picks remove less than 1% of the targets' uncertainty"]),
        (_selection([3.0, 2.0], near=1), ["1 of 2 picks are nearly equal to a target (column near_target)"]),
    ],
)
def test_what_is_warned_of(selection: Selection, beginnings: list[str]) -> None:
    found = warnings_about(selection)
    assert len(found) == len(beginnings)
    assert all(text.startswith(start) for text, start in zip(found, beginnings, strict=True))


def test_minimums_that_were_not_met_come_first() -> None:
    selection = _selection([3.0, 0.0001])
    selection.metrics["limits"].append({"name": "lang=de", "used": 1, "min": 3, "unmet": True})
    assert warnings_about(selection)[0].startswith("lang=de: 1 (min 3): the minimum is not met")


def test_how_many_picks_would_do_is_said_at_the_end() -> None:
    totals = {"num_rows": 9, "num_targets": 2, "total_gain": 1.9, "passes": 1, "seconds": {}}
    for gains, would_do in (([1.0, 0.9, 0.001, 0.001], 2), ([1.0, 0.9], None)):
        selection = _selection(gains)
        selection.metrics.update(totals)
        told = summarise(selection)
        words = "2 picks would do: 99.89% of the gain, and each pick after them adds less than a tenth"
        assert (words in told.details) == (would_do is not None)
        assert told.facts["would_do"] == would_do
