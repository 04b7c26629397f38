"""The record from which a lost shard is brought to exactly the state of the surviving ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.messages import Block, ExactSearch, ScoreSpec
from ray_itl.core.shard import PoolShard
from ray_itl.errors import StaleShardError


@dataclass(frozen=True)
class Recovery:
    """All that a freshly loaded shard needs to answer the next call as if it had been there all along."""

    start: ScoreSpec
    columns: Tensor | None
    """Columns of the picks accepted since `start`, D x num_tracks x k float64; None without any."""
    sequence: int
    """Number of the first block or contest not contained in `columns`."""
    held: np.ndarray
    """Positions held by the driver."""
    last: Block | ExactSearch | None
    """The block or contest that was answered, but of which the next call has yet to say how much stands."""
    picks: Tensor | None = None
    """Features of the picks accepted so far, k x D float64, where picks bar rows like them."""

    def apply(self, shard: PoolShard) -> None:
        """Bring a shard, whatever its state, to the present. One pass, one for the columns, and one for `last`."""
        shard.start(self.start)
        shard.replay(self.columns, self.sequence, self.picks)
        shard.hold(self.held)
        if isinstance(self.last, Block):
            shard.verify(self.last)
        elif self.last is not None:
            shard.search_exactly(self.last)


class Journal:
    """What all shards of a pool have been told since the last restore, as far as it matters.

    The columns take as much memory as the driver's own: 8 D num_tracks bytes a pick.
    """

    def __init__(self) -> None:
        self._start: ScoreSpec | None = None
        self._columns: list[Tensor] = []
        self._picks: list[Tensor] = []
        self._sequence = 0
        self._held = np.empty(0, dtype=np.int64)
        self._last: Block | ExactSearch | None = None

    def restored(self, start: ScoreSpec, held: np.ndarray, picks: Tensor | None = None) -> None:
        """Record a restore, which makes everything before it irrelevant."""
        self._picks = [] if picks is None else [picks]
        self._start, self._columns, self._sequence = start, [], 0
        self._held, self._last = np.unique(held), None

    def settle(self, sequence: int, accepted: int) -> None:
        """Record, before a block or contest is sent, how much of the previous block stands.

        Raises:
            StaleShardError: no restore was recorded, or this is not the next block.
        """
        expected = self._sequence + (self._last is not None)
        if self._start is None or sequence != expected:
            raise StaleShardError(f"the pool expects block {expected}, got block {sequence}: restore it first")
        if isinstance(self._last, Block):
            self._columns.append(self._last.columns[:, :, :accepted].clone())
            if self._last.picks is not None:
                self._picks.append(self._last.picks[:accepted].clone())
        self._sequence, self._last = sequence, None

    def verified(self, block: Block, taken: np.ndarray) -> None:
        """Record a block that every shard answered, and the positions of the rows that came back."""
        self._held = np.union1d(np.setdiff1d(self._held, block.released), taken)
        # Repeated, it must hand out no row: no value can be beaten and nothing is asked for or released.
        never = torch.full_like(block.values, float("inf"))
        self._last = replace(block, values=never, released=self._held[:0], num_proposals=0)

    def searched(self, search: ExactSearch) -> None:
        """Record a contest that every shard answered."""
        self._last = search

    def took(self, positions: np.ndarray) -> None:
        """Record rows that the pool handed out in reply to propose or champions."""
        self._held = np.union1d(self._held, positions)

    def recovery(self) -> Recovery | None:
        """Return how to rebuild a shard for the call that was announced last; None before the first restore."""
        if self._start is None:
            return None
        self._columns = [torch.cat(self._columns, dim=2)] if self._columns else []
        self._picks = [torch.cat(self._picks)] if self._picks else []
        picks = self._picks[0] if self._picks else None
        columns = self._columns[0] if self._columns else None
        return Recovery(self._start, columns, self._sequence, self._held, self._last, picks)
