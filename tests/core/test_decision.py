"""The judge: incremental scores are only a screen, also where rounding weighs more on one row than on another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ray_itl.core.acquisitions.base import Scores
from ray_itl.core.acquisitions.information_gain import InformationGain, _InformationGainState
from ray_itl.core.decision import Contenders, TotalOrder, Winner
from ray_itl.core.posterior import Posterior

_NOISE = 1e-8


def _state() -> _InformationGainState:
    """Row e1: v = 1e-6, u = 1e-8, ratio 50.5. Row e2: v = 1, the ratio smaller by 2e-7."""
    ratio = (1e-6 + _NOISE) / (1e-8 + _NOISE) * (1 - 2e-7)
    given_targets = torch.tensor([1e-8, (1 + _NOISE) / ratio - _NOISE], dtype=torch.float64)
    prior = torch.tensor([1e-6, 1.0], dtype=torch.float64)
    return _InformationGainState(
        _NOISE, Posterior.of_root(prior.sqrt().diag()), (Posterior.of_root(given_targets.sqrt().diag()),)
    )


def _best(
    scores: Scores, ids: list[int], may_win: Sequence[bool] = (True, True), prices: Sequence[float] = (1, 1)
) -> Winner:
    rows, ones = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    field = Contenders(
        rows, np.array(ids), scores, ones, torch.tensor(prices, dtype=torch.float64), torch.tensor(may_win)
    )
    return TotalOrder(InformationGain(_NOISE), (1.0, 1.0), 1.0).best(_state(), field)


def test_a_row_of_small_scores_is_rescored_though_the_best_row_is_known_well() -> None:
    state, rows = _state(), torch.eye(2, dtype=torch.float64)
    exact = state.scores(rows)
    judge = TotalOrder(InformationGain(_NOISE), (1.0, 1.0), 1.0)
    assert judge.gains(exact).argmax() == 0
    off = (exact[0] + torch.tensor([100 * 2.0**-52, 0.0], dtype=torch.float64), exact[1])
    assert judge.gains(off).argmax() == 1
    assert _best(off, ids=[1, 0]).place == 0


def test_rows_that_may_not_win_do_not() -> None:
    exact = _state().scores(torch.eye(2, dtype=torch.float64))
    assert _best(exact, ids=[0, 1]).place == 0
    assert _best(exact, ids=[0, 1], may_win=[False, True]).place == 1


def test_rows_compete_by_gain_over_price() -> None:
    """The first row gains 1 + 1e-7 times as much, for 1 + 2e-7 times the price; at equal prices it wins."""
    exact = _state().scores(torch.eye(2, dtype=torch.float64))
    assert _best(exact, ids=[0, 1], prices=[1.0 + 2e-7, 1.0]).place == 1
    assert _best(exact, ids=[0, 1], prices=[1.0 + 1e-9, 1.0]).place == 0


def test_ties_are_measured_in_gain_at_the_price_of_each_row() -> None:
    """Both are worth the same per price, to 1e-10 of it: the smaller id wins, whichever gains more."""
    exact = _state().scores(torch.eye(2, dtype=torch.float64))
    gains = TotalOrder(InformationGain(_NOISE), (1.0, 1.0), 1.0).gains(exact)
    prices = [float(gains[0]) * (1 + 1e-10), float(gains[1])]
    assert _best(exact, ids=[0, 1], prices=prices).place == 0
    assert _best(exact, ids=[1, 0], prices=prices).place == 1
