"""Thresholds that shards screen by."""

import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.messages import ScoreSpec
from ray_itl.core.posterior import Posterior, Targets


def test_a_row_two_tie_widths_below_the_value_of_a_pick_is_still_looked_at() -> None:
    acquisition = InformationGain(0.1)
    state = acquisition.start(Posterior.prior(3), Targets.uniform(torch.eye(3, dtype=torch.float64)))
    start = ScoreSpec.of(acquisition, state, "float64")
    values = torch.tensor([1.0, 1e-3, 0.0, -1.0, float("inf"), float("-inf")], dtype=torch.float64)
    needed = start.needed(values)
    torch.testing.assert_close(values[:4] - needed[:4], 2e-9 * values[:4].abs() + 2e-12, rtol=1e-4, atol=0.0)
    assert needed[4:].tolist() == [float("inf"), float("-inf")]
