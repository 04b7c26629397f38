import numpy as np
import pytest

from benchmarks.value.paired import first_reached, paired, saving

DRAW = np.random.default_rng(0)


def test_paired_differences_are_those_of_numpy() -> None:
    own, theirs = DRAW.standard_normal((2, 40))
    found = paired(own, theirs)
    assert found.mean == pytest.approx(own.mean() - theirs.mean())
    assert found.error == pytest.approx(np.sqrt(np.var(own - theirs, ddof=1) / 40))
    assert found.num_tests == 40
    assert str(paired([1.0, 2.0], [0.5, 1.0])) == "+0.7500 ± 0.2500"
    assert np.isnan(paired([1.0], [2.0]).error)


def test_where_a_curve_reaches_a_value() -> None:
    curve = np.array([3.0, 2.0, 2.5, 1.0])
    assert first_reached(curve, 2.5, [0, 10, 20, 40]) == 5
    assert first_reached(curve, 1.0, [0, 10, 20, 40]) == 40
    assert first_reached(curve, 1.75, [0, 10, 20, 40]) == 30
    assert first_reached(curve, 3.0, [0, 10, 20, 40]) == 0
    assert first_reached(curve, 0.9, [0, 10, 20, 40]) is None


def test_a_curve_twice_as_fast_saves_half() -> None:
    places = [0, 10, 20, 40]
    slow = np.tile(4.0 - np.array(places) / 40, (30, 1))
    fast = np.tile(4.0 - np.array(places) / 20, (30, 1))
    found = saving(fast, slow, places, 0)
    assert (found.times, found.low, found.high) == pytest.approx((2, 2, 2))
    assert saving(slow, fast, places, 0).times == pytest.approx(1 / 2)
    assert saving(slow, slow, places, 0).times == 1
    noisy = slow + 0.05 * DRAW.standard_normal(slow.shape)
    found = saving(noisy, slow, places, 0)
    assert found.low < found.times < found.high
    assert saving(noisy, slow, places, 0) == found
    assert str(saving(fast, slow, places, 0)) == "2.00 (2.00 to 2.00)"


def test_a_rule_that_only_harms_saves_nothing() -> None:
    places = [0, 10]
    assert saving(np.array([[2.0, 3.0]]), np.array([[2.0, 1.0]]), places, 0).times == 0
