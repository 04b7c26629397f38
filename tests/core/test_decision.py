"""The judge: incremental scores are only a screen, also where rounding weighs more on one row than on another."""

from __future__ import annotations

import numpy as np
import torch

from ray_itl.core.acquisition import Scores
from ray_itl.core.acquisitions import InformationGain, _InformationGainState
from ray_itl.core.decision import Judge
from ray_itl.core.posterior import Posterior

_NOISE = 1e-8


def _state() -> _InformationGainState:
    """Row e1: v = 1e-6, u = 1e-8, ratio 50.5. Row e2: v = 1, the ratio smaller by 2e-7."""
    ratio = (1e-6 + _NOISE) / (1e-8 + _NOISE) * (1 - 2e-7)
    given_targets = torch.tensor([1e-8, (1 + _NOISE) / ratio - _NOISE], dtype=torch.float64)
    prior = torch.tensor([1e-6, 1.0], dtype=torch.float64)
    return _InformationGainState(_NOISE, Posterior(prior.sqrt().diag()), Posterior(given_targets.sqrt().diag()))


def test_a_row_of_small_scores_is_rescored_though_the_best_row_is_known_well() -> None:
    state, rows = _state(), torch.eye(2, dtype=torch.float64)
    exact = state.scores(rows)
    judge = Judge(InformationGain(_NOISE), 1.0, 1.0)
    assert judge.gains(exact).argmax() == 0
    off = Scores(exact.num, exact.den + torch.tensor([100 * 2.0**-52, 0.0], dtype=torch.float64))
    assert judge.gains(off).argmax() == 1
    assert judge.best(state, rows, np.array([1, 0]), off, torch.ones(2, dtype=torch.float64)).place == 0


def test_rows_that_may_not_win_do_not() -> None:
    state, rows = _state(), torch.eye(2, dtype=torch.float64)
    exact = state.scores(rows)
    barred = Scores(torch.tensor([float("-inf"), float(exact.num[1])], dtype=torch.float64), exact.den)
    judge = Judge(InformationGain(_NOISE), 1.0, 1.0)
    assert judge.best(state, rows, np.array([0, 1]), barred, torch.ones(2, dtype=torch.float64)).place == 1
