"""Rows made to break bounds, and the rules that they are tried on."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.posterior import Posterior, Targets
from tests.core.helpers import clustered, normal, power_law, random, with_copies, with_zeros

DIM, NUM_ROWS = 12, 160
TASKS = {
    "itl": (InformationGain(0.1), 1),
    "itl-eq43": (InformationGain(0.1, target_noise_variance=0.0), 1),
    "itl-tasks": (InformationGain(0.1, task_weights=(1.0, 0.5, -0.7)), 3),
    "vtl": (VarianceReduction(0.1), 1),
    "vtl-tasks": (VarianceReduction(0.1, task_weights=(1.0, -0.5)), 2),
    "uncertainty": (Uncertainty(0.1), 1),
}


def _midpoints(rows: Tensor, seed: int) -> Tensor:
    """Rows half-way between the integers that they may be rounded to: residuals as large as they can be."""
    units = rows.abs().amax(dim=1, keepdim=True) / 127
    halves = (rows / units).floor() + 0.5 - 1e-3 * torch.rand(rows.shape, generator=random(seed)).to(rows)
    return halves.clamp(-127, 127) * units


def _aligned(rows: Tensor, seed: int) -> Tensor:
    """Pairs of rows that differ by less than rounding keeps, along one direction: the nearly best, and the best."""
    direction = torch.nn.functional.normalize(normal(1, rows.shape[1], seed))
    twins = rows.clone()
    twins[1::2] = twins[::2][: len(twins[1::2])] + 1e-3 * direction
    return twins


def _spread(rows: Tensor, seed: int) -> Tensor:
    """Rows of norms from 1e-6 to 1e3, in coordinates of sizes from 1e-4 to 1."""
    norms = 10 ** (9 * torch.rand(len(rows), 1, generator=random(seed), dtype=torch.float64) - 6)
    return rows * norms * 10 ** torch.linspace(-4, 0, rows.shape[1], dtype=torch.float64)


def _spiked(rows: Tensor, seed: int) -> Tensor:
    """Rows of which some have one coordinate a hundred times the others."""
    spiked = rows.clone()
    spiked[torch.rand(len(rows), generator=random(seed)) < 0.1, seed % rows.shape[1]] *= 100
    return spiked


KINDS = {
    "plain": lambda rows, _: rows,
    "midpoints": _midpoints,
    "aligned": _aligned,
    "spread": _spread,
    "spiked": _spiked,
    "copies": lambda rows, seed: with_zeros(with_copies(rows, 0.4, seed), 0.1, seed),
    "tiny": lambda rows, _: 1e-18 * rows,
    "huge": lambda rows, _: 1e18 * rows,
}
rows_of_a_kind = st.builds(
    lambda kind, seed, base: KINDS[kind](base(NUM_ROWS, DIM, seed), seed),
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 10**6),
    st.sampled_from([clustered, power_law, normal]),
)


def state_of(rule: Acquisition, num_tasks: int, known: Tensor, scale: float, seed: int) -> AcquisitionState:
    tasks = [Targets.uniform(scale * normal(4, DIM, seed + task)) for task in range(num_tasks)]
    return rule.start(Posterior.prior(DIM).condition_on_rows(known, rule.noise_variance), *tasks)
