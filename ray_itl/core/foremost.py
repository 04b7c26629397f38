"""Which candidates may be the best of all: those among which the driver makes its next steps."""

from __future__ import annotations

import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import AcquisitionState
from ray_itl.core.bounded_scores import BoundedScores
from ray_itl.core.candidates import CandidateSet
from ray_itl.core.criteria import Criteria


def foremost(
    criteria: Criteria, held: CandidateSet, state: AcquisitionState, scores: BoundedScores, may_win: Tensor
) -> tuple[Tensor, BoundedScores]:
    """Return places, ascending, of the best candidates, all among them that may be the best of all; none where none is.

    Args:
        criteria: How rows compete.
        held: The candidates.
        state: The rule's state.
        scores: Of the candidates, under that state.
        may_win: Which of them may be picked, k bool.

    Returns:
        The places, and scores that are exact there.
    """
    if not held.is_screened:
        scores = held.all_exactly(scores, state)
    if not bool(may_win.any()) or len(held) <= 2 * held.focus:
        return torch.nonzero(may_win).flatten(), scores
    total_order, prices, chosen = criteria.total_order, criteria.rules.prices(held.costs), torch.zeros_like(may_win)
    values = (total_order.gains(scores.values) / prices).masked_fill_(~may_win, float("-inf"))
    chosen[torch.topk(values.nan_to_num_(float("inf")), held.focus).indices] = True
    chosen &= may_win
    if not held.is_screened:
        chosen[total_order.near(scores.values, held.norms, prices, may_win)] = True
        return torch.nonzero(chosen).flatten(), scores
    few = torch.nonzero(chosen).flatten()
    scores = held.exactly(scores, few, state)
    if not held.is_screened:
        return foremost(criteria, held, state, scores, may_win)
    value = total_order.surely(scores.at(few), held.norms[few], prices[few])
    asked = torch.nonzero((held.near(scores, value) & may_win) | chosen).flatten()
    scores = held.exactly(scores, asked, state)
    if not held.is_screened:
        return foremost(criteria, held, state, scores, may_win)
    near = total_order.near(scores.at(asked), held.norms[asked], prices[asked], may_win[asked])
    chosen[asked[near]] = True
    return torch.nonzero(chosen).flatten(), scores
