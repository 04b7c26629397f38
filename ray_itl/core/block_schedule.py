"""How far to speculate: sizes of blocks and candidate sets, adapted to how many picks were true last time."""

from __future__ import annotations

from dataclasses import dataclass, replace

_FEW_CANDIDATES = 2048
HELD_WHOLE = 12_288
"""A pool of at most so many rows is held whole: steps among all of it take less than passes, which prove the same."""
_USUAL_ROWS, _MOST_MORE = 2**21, 4
"""A larger pool has as many more candidates as it has rows, up to four times as many."""
_COLUMN_BYTES = 2**27


@dataclass(frozen=True)
class BlockSchedule:
    """Sizes for the next block. They change how long a selection takes, never what it picks.

    A longer block shares one pass among more picks but wastes work when a pick is beaten early; more candidates
    make that rarer and cost driver time and memory (4 D bytes each, 8 D of a pool in float64).
    """

    block: int = 16
    """B, picks speculated per pass."""
    candidates: int = 16384
    """C, rows held by the driver."""
    max_block: int = 64
    max_candidates: int = 32768
    focus: int = 512
    """Candidates among which steps are made before the others are compared with the picks."""
    max_challengers: int = 4096
    """Challengers accepted from one pass, over all shards, before the block is cut."""
    stood: bool = False
    """Whether all picks of the last block were true."""

    @property
    def proposals(self) -> int:
        """New rows to ask for with every pass: few where those that are held have been enough."""
        return max(1, self.candidates // (8 if self.stood else 2))

    def fit(self, dim: int, num_rows: int, max_bytes: int = 2**29) -> BlockSchedule:
        """Return the schedule with candidate sets that suit the pool.

        They fit in `max_bytes` of float64 features, and are a small part of a small pool: a step over C candidates
        costs the driver as much as its share of a pass costs the shards when C is about N / 32. Of a large pool too
        small a part is beaten early: 100 picks of 10^7 rows took 13 passes with 16,384 candidates, 8 with 65,536 and 7
        with 131,072, and half the time with any of the two.

        Args:
            dim: D.
            num_rows: N.
            max_bytes: Of the candidates' features on the driver.
        """
        bytes_limit = max(256, max_bytes // (8 * dim))
        start = num_rows if num_rows <= HELD_WHOLE else max(_FEW_CANDIDATES, num_rows // 32)
        more = min(max(1.0, num_rows / _USUAL_ROWS), _MOST_MORE)
        return replace(
            self,
            candidates=min(int(more * self.candidates), bytes_limit, start),
            max_candidates=min(int(more * self.max_candidates), bytes_limit, 4 * start),
            focus=int(more * self.focus),
            max_challengers=min(self.max_challengers, bytes_limit),
        )

    def for_picks(self, n: int, dim: int) -> BlockSchedule:
        """Return the schedule for n picks: of many, more may share a pass, up to 16 times as many.

        But D / 4 at most: a pass also compares the B steps of a block with each other, B^2 a row beside D B for the
        product. At B = D / 2 it took 1.4 times as long for each pick. Nor more than 128 MiB for a column of each.
        """
        longest = min(16 * self.max_block, n // 16, dim // 4, _COLUMN_BYTES // (8 * dim))
        return replace(self, max_block=max(self.max_block, longest))

    def driver_bytes(self, dim: int, num_rows: int, dtype: str) -> int:
        """Return the driver's memory for candidates at their most.

        Measured at 384 dimensions: four times their features, for copies while candidates come and go; five leave a
        margin.

        Args:
            dim: D.
            num_rows: N.
            dtype: Of the pool: candidates are held in float32, or in float64 if their rows are.
        """
        return 5 * (8 if dtype == "float64" else 4) * dim * min(self.max_candidates, num_rows)

    def adapt(self, accepted: int, size: int) -> BlockSchedule:
        """Return the sizes after a block of `size` picks of which `accepted` were true."""
        if accepted == size:
            return replace(self, block=min(max(self.block, 2 * size), self.max_block), stood=True)
        return replace(
            self,
            stood=False,
            block=max(8, min(self.block, 2 * accepted)),
            candidates=min(2 * self.candidates, self.max_candidates),
        )
