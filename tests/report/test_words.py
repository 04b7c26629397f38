"""Numbers read as a person would write them."""

import pytest

from ray_itl.report.selection_page import headline
from ray_itl.text import duration, number, percent
from tests.report.helpers import make_report_data


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (1, "100%"), (0.5, "50%"), (0.99999, "over 99.99%"), (0.9971, "99.71%"), (1e-7, "under 0.01%")],
)
def test_percent_never_rounds_to_all_or_nothing(share: float, text: str):
    assert percent(share) == text


@pytest.mark.parametrize(("value", "text"), [(1, "1"), (1234567, "1,234,567"), (1234.5, "1,234"), (0.123456, "0.1235")])
def test_number(value: float, text: str):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4213, "0.421 s"), (59.94, "59.9 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str):
    assert duration(seconds) == text


def test_headline_of_one_pick():
    assert headline(make_report_data(1)) == (
        "1 row picked from 1,000,000, the one most informative about 30 targets: "
        "2 nats of information, with 67% of the targets' prior uncertainty left."
    )
