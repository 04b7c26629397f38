"""One embedding of everything, by one model: pool, candidates, targets and earlier picks.

And how far embeddings moved between two models, on a sample of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ray_itl.embedding.source import EmbeddedSource
from ray_itl.errors import InputError
from ray_itl.rounds.data import TuningData
from ray_itl.rounds.model import RoundModel
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource, RowSource
from ray_itl.sources.open import open_rows, open_source
from ray_itl.sources.views import SubsetRows, SubsetSource


class RoundFeatures:
    """Rows in the feature space of one checkpoint, or of a column of given embeddings.

    A few rows are embedded by themselves, not with the batches of the whole pool that they stand in; the two differ
    by rounding.
    """

    def __init__(self, data: TuningData, settings: FineTuneSettings, model: RoundModel, checkpoint: str | None) -> None:
        """Load the model, unless embeddings are given.

        Args:
            data: The rows.
            settings: What is read of them.
            model: What embeds them.
            checkpoint: Weights of the model; None: those it begins with.

        Raises:
            ConfigError: a model that cannot be built, or has no such embedding.
            InputError: a checkpoint or column that cannot be used, or targets of other dimensions than the pool.
        """
        self._data = data
        self._given_column = settings.embedding.column or ""
        given = settings.embedding.kind == "column"
        self._embedder = None if given else model.embedder(data, checkpoint)

    def pool(self) -> PoolSource:
        """Return the whole pool."""
        if self._embedder is not None:
            return EmbeddedSource(self._data.pool, self._data.options.raw_column, self._embedder)
        data = self._data.options
        return open_source(
            data.pool,
            id_column=data.id_column,
            embedding_column=self._given_column,
            id_option="data.id_column",
            embedding_option="embedding.column",
        )

    def candidates(self, positions: np.ndarray) -> tuple[PoolSource, np.ndarray]:
        """Return some rows of the pool as a source of their own, and their positions in the pool, ascending."""
        if self._embedder is None:
            subset = SubsetSource(self.pool(), positions)
            return subset, subset.positions
        rows = SubsetRows(self._data.pool, positions)
        return EmbeddedSource(rows, self._data.options.raw_column, self._embedder), rows.positions

    def rows(self, positions: np.ndarray) -> Tensor:
        """Return rows of the pool, in the order of positions: k x D float64."""
        if not len(positions):
            return torch.empty(0, self.pool().dim, dtype=torch.float64)
        source, ascending = self.candidates(positions)
        return torch.from_numpy(source.embeddings(np.searchsorted(ascending, positions)))

    def embed(self, rows: RowSource) -> Tensor:
        """Return the model's embeddings of those of some rows that can be read: k x D float64."""
        assert self._embedder is not None, "given embeddings do not change"
        source, bad = EmbeddedSource(rows, self._data.options.raw_column, self._embedder), BadRows()
        embedded = np.concatenate([batch for _, batch in source.batches(0, rows.num_rows, bad)]).astype(np.float64)
        return torch.from_numpy(np.delete(embedded, bad.positions, axis=0))

    def targets(self, chosen: np.ndarray) -> Tensor:
        """Return targets, in the order of `chosen`: k x D float64."""
        targets = self._target_source()
        if targets.dim != (dim := self.pool().dim):
            raise InputError(
                f"target embeddings have {targets.dim} dimensions, the pool's have {dim}: embed both with the same "
                "model"
            )
        return torch.from_numpy(targets.embeddings(chosen))

    def _target_source(self) -> PoolSource:
        rows: RowSource = self._data.targets
        if self._embedder is not None:
            return EmbeddedSource(rows, self._data.options.raw_column, self._embedder)
        target: Any = self._data.options.target
        return open_rows(target, "", self._given_column, embedding_option="embedding.column")


@dataclass(frozen=True)
class Drift:
    """Distances between two embeddings of the same rows."""

    mean_cosine: float
    """Mean over rows of cos(x, x'): 1 where no direction changed; meaningless for networks trained from new weights."""
    kernel_change: float
    """|K - K'|_F / |K|_F with K = X X': 0 where selection sees no difference; rotations do not count."""
    cka: float
    """Linear centred kernel alignment (Kornblith et al., 2019): 1 where the kernels agree up to scale and shift."""


def measure_drift(before: Tensor, after: Tensor) -> Drift:
    """Compare two embeddings of n rows.

    Args:
        before: X, n x D.
        after: X', n x D', row by row the same; D' may differ from D, and the mean cosine is then nan.

    Returns:
        Where X or centred X is all zeros, the ratio to it is nan. O(n^2 (D + D')).

    Raises:
        InputError: the numbers of rows differ.
    """
    if len(before) != len(after):
        raise InputError(f"drift compares the same rows, but one embedding has {len(before)} and one {len(after)}")
    x, y = before.to(torch.float64), after.to(torch.float64)
    same_dim = x.shape[1] == y.shape[1]
    cosine = float(cosine_similarity(x, y, dim=1).mean()) if same_dim else float("nan")
    kernel, other = x @ x.mT, y @ y.mT
    change = float((kernel - other).norm() / kernel.norm())
    cx, cy = x - x.mean(dim=0), y - y.mean(dim=0)
    alignment = (cx.mT @ cy).square().sum() / ((cx.mT @ cx).norm() * (cy.mT @ cy).norm())
    return Drift(cosine, change, float(alignment))
