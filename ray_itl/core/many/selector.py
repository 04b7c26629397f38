"""Exact greedy selections for many queries of one pool, which share their passes.

For each query the driver fetches the rows that gain most before the first pick, some thousands, and makes some picks
among them alone. Then every row of the pool compares itself with the picks of all queries, in one pass, by the
screening of `screening`: for each query all rows come back that beat a pick at its step, and those that would gain most
after the last. The driver picks anew with them; picks before the first that was beaten stand, and the next pass tests
further ones. What stands at the end is what each query would have picked alone.

Shards keep nothing between passes: each starts from the rows' scores before the first pick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.limits import Limits
from ray_itl.core.many.left_out import most_left_out
from ray_itl.core.many.query import Path, Query, Rows, pick_among, shares_passes
from ray_itl.core.many.questions import FetchedRows, FetchQuestion, NearestQuestion, Trial, VerifyQuestion
from ray_itl.core.messages import Precision, ScoreSpec
from ray_itl.core.pool import Pool, Question, T
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.screening.speed import first_precision
from ray_itl.core.similarity_floor import SimilarityFloor
from ray_itl.errors import ConfigError

_FETCHED = 2048
"""Rows fetched for a query to begin with, at least."""
_BATCH_BYTES = 1 << 30
"""Of rows fetched for the queries that share passes."""
_MOST_QUERIES = 1024
_LIMIT = 512
"""Rows that may come back for a query from one shard."""
_MOST_PASSES = 12
"""After so many a query is selected for alone."""
_BLOCK = 16
"""Picks that are tested in the first pass of a query."""
_PROPOSALS = 512
"""Rows that come back for a query with every pass, over all shards."""
_MANY_DOUBTS = 0.12
_QUIET, _LOUD = 1e-9, 1e9
"""Beyond these, beside the largest |x|^2, noise is left to selections of one query, which know what to say of it."""


@dataclass(frozen=True)
class QueryPicks:
    """What was picked for one query."""

    number: int
    """Its place among the queries."""
    positions: np.ndarray
    ids: np.ndarray
    gains: np.ndarray
    bounds: np.ndarray | None = None
    """Where only the nearest rows were looked at: the most that any other row could have gained at each step."""
    floor: float | None = None
    """Where targets set a floor: the least cosine to the nearest of the query's that a row had to have."""


@dataclass
class ManyStats:
    """Counts of a selection for many queries."""

    passes: int = 0
    """Reads of all the pool's features, for any number of queries."""
    alone: int = 0
    """Queries that were selected for one by one."""


@dataclass
class _Open:
    """A query under way."""

    number: int
    query: Query
    places: np.ndarray
    """Of the rows fetched for it, in the table."""
    height: float
    """See `left_out`."""
    path: Path | None = None
    verified: int = 0
    """Steps of the path that are certain."""
    passes: int = 0
    block: int = _BLOCK
    """Further picks to test in the next pass."""


class ManySelector:
    """Selections for many queries over a pool, of which it must be the only user meanwhile.

    Args:
        pool: The pool.
        acquisition: The rule.
        posterior: Given what is known, the same for all queries.
        excluded: Positions (distinct int64) of rows that may not be picked.
        screening: What rows are screened in to begin with; None chooses what is fastest here.
        may_copy: Whether what is chosen may be copies, which take memory beside the rows.
        in_turn: Whether exact picks are made for one query after another: where a pass costs no reads, sharing it does
            not pay for what a shard that keeps no scores multiplies anew.
        nearest: Look only at so many rows for each query, those of the largest gain before the first pick; None: at
            all, so that picks are those of the whole pool.
        floor_of: Returns the floor that targets set; None: they set none. Where they do, queries are served one after
            another, and have fewer picks where fewer rows are above it.
        on_pass: Told after every pass how many queries it was for.
    """

    def __init__(
        self,
        pool: Pool,
        acquisition: Acquisition,
        posterior: Posterior,
        excluded: np.ndarray,
        screening: Precision | None = None,
        may_copy: bool = True,
        nearest: int | None = None,
        in_turn: bool = False,
        floor_of: Callable[[Targets], SimilarityFloor] | None = None,
        on_pass: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._pool, self._acquisition, self._posterior = pool, acquisition, posterior
        self._excluded, self._may_copy = excluded, may_copy
        self._screening: Precision | None = screening
        self._nearest, self._in_turn = nearest, in_turn
        self._floor_of, self._on_pass = floor_of, on_pass
        self._largest, self._mean = pool.largest_norm(), pool.mean_squared_norm()
        noise = acquisition.noise_variance
        self._shares = shares_passes(acquisition) and _QUIET * self._largest < noise < _LOUD * self._largest
        self._precision: Precision = screening or first_precision(
            pool.num_rows, pool.dim, noise, self._largest, may_copy, acquisition.integer_noise
        )
        self.stats = ManyStats()

    def select(self, targets: Sequence[Targets], n: int) -> Iterator[QueryPicks]:
        """Yield n picks for each query, queries in the order given: in batches, each once all of it are certain.

        Raises:
            ConfigError: n out of range, or fewer rows are to be looked at.
            NumericalError: float64 cannot resolve the noise variance against the rows' norms.
        """
        available = self._pool.num_rows - len(self._excluded)
        if not 1 <= n <= available:
            raise ConfigError(f"selection.n={n}, but the pool has {available} rows: ask for 1 to that many")
        if self._nearest is not None and not n <= self._nearest:
            raise ConfigError(f"nearest={self._nearest} is less than selection.n={n}: look at more rows")
        if self._nearest is not None and not self._shares:
            raise ConfigError(f"nearest={self._nearest} goes with acquisition.name=itl or vtl: leave it out")
        if self._nearest is not None and self._floor_of is not None:
            raise ConfigError(f"nearest={self._nearest} goes without min_similarity: leave one of them out")
        shares = self._shares and self._floor_of is None and not (self._in_turn and self._nearest is None)
        count = min(available, self._nearest or max(_FETCHED, 4 * n))
        size = min(_MOST_QUERIES, max(1, _BATCH_BYTES // (8 * self._pool.dim * count)))
        for first in range(0, len(targets), size):
            batch = range(first, min(first + size, len(targets)))
            if shares:
                yield from self._together(batch, targets, n, count)
            else:
                yield from (self._alone(number, targets[number], n) for number in batch)

    def _together(self, batch: range, targets: Sequence[Targets], n: int, count: int) -> Iterator[QueryPicks]:
        """Serve the queries of a batch, of which `count` rows each are fetched."""
        open_queries = [
            _Open(number, self._query(targets[number]), np.empty(0, dtype=np.int64), 0.0) for number in batch
        ]
        table = self._fetch_nearest(open_queries, count)
        done: dict[int, QueryPicks] = {}
        for each in open_queries:
            all_held = self._nearest is not None or count == self._available
            each.path = path = pick_among(each.query, table.rows(each.places), n if all_held else min(n, each.block))
            if self._nearest is not None:
                some = count < self._available
                bounds = most_left_out(path, each.height, self._largest) if some else np.zeros(n)
                done[each.number] = _picks(each, bounds)
        if self._nearest is not None:
            open_queries = []
        elif count == self._available:
            done = {each.number: _picks(each) for each in open_queries}
            open_queries = []
        while open_queries:
            self._verify(open_queries, table, n)
            left = []
            for each in open_queries:
                if each.verified == n:
                    done[each.number] = _picks(each)
                elif each.passes == _MOST_PASSES:
                    done[each.number] = self._alone(each.number, targets[each.number], n)
                else:
                    left.append(each)
            open_queries = left
        yield from (done[number] for number in batch)

    @property
    def _available(self) -> int:
        return self._pool.num_rows - len(self._excluded)

    def _query(self, targets: Targets) -> Query:
        return Query(self._acquisition, self._posterior, targets, self._mean)  # type: ignore[arg-type]

    def _alone(self, number: int, targets: Targets, n: int) -> QueryPicks:
        """Select for one query, without the others."""
        state = self._acquisition.start(self._posterior, targets)
        floor = None if self._floor_of is None else self._floor_of(targets)
        selector = GreedySelector(
            self._pool,
            self._acquisition,
            state,
            limits=Limits(floor=floor),
            excluded=self._excluded,
            screening=self._screening,
            may_copy=self._may_copy,
        )
        result = selector.select(n)
        self.stats.passes += selector.stats.passes + (floor is not None)
        self.stats.alone += 1
        ids = np.array([pick.row_id for pick in result.picks])
        gains = np.array([pick.gain for pick in result.picks])
        return QueryPicks(number, result.positions, ids, gains, floor=None if floor is None else floor.limit)

    def _fetch_nearest(self, queries: list[_Open], count: int) -> _Table:
        """Find the best rows for each query, and fetch them."""
        told = [torch.from_numpy(each.query.told) for each in queries]
        known, noise = self._posterior.removed_factor(), self._acquisition.noise_variance
        question = NearestQuestion(told, known, noise, count, self._excluded, self._precision)
        answers = self._ask(question, len(queries))
        wanted = []
        for place, each in enumerate(queries):
            positions = np.concatenate([answer.positions[place] for answer in answers])
            scores = np.concatenate([answer.scores[place] for answer in answers])
            best = np.lexsort((positions, -scores))[:count]
            wanted.append(positions[best])
            each.height = float(scores[best[-1]]) ** 0.5 + max(float(answer.error[place]) for answer in answers)
        distinct, inverse = np.unique(np.concatenate(wanted), return_inverse=True)
        table = _Table()
        for rows in self._pool.ask(FetchQuestion(distinct)):
            table.add(rows)
        for each, places in zip(queries, np.split(inverse, np.cumsum([len(w) for w in wanted])[:-1]), strict=True):
            each.places = places
        return table

    def _verify(self, queries: list[_Open], table: _Table, n: int) -> None:
        """Let all rows test the picks of some queries; pick anew where one of them is beaten."""
        trials = []
        for each in queries:
            assert each.path is not None
            query = each.query
            spec = ScoreSpec.of(query.acquisition, query.state, self._precision, query.gain_scale)
            trials.append(Trial(spec, each.path.block(each.verified), table.positions[each.places]))
        answers = self._ask(VerifyQuestion(trials, self._excluded, _LIMIT, _PROPOSALS), len(queries))
        doubtful = 0
        for place, each in enumerate(queries):
            found = [each.places]
            for answer in answers:
                found.append(table.add(answer.rows)[answer.places[place]])
                doubtful += int(answer.doubtful[place])
            # Rows that would gain most may be held already.
            each.places, each.passes = np.unique(np.concatenate(found)), each.passes + 1
            self._repick(each, table, min(int(answer.verified[place]) for answer in answers), n)
        if doubtful > _MANY_DOUBTS * self._pool.num_rows * len(queries) and self._precision != "float64":
            self._precision = "float64" if self._precision == "float32" else "float32"

    def _repick(self, each: _Open, table: _Table, complete: int, n: int) -> None:
        """Pick anew once rows came back, all of them that beat a pick at the steps before `complete`."""
        old, before = each.path, each.verified
        assert old is not None
        tested = len(old.gains)
        size = min(n, max(complete, before) + 2 * each.block)
        path = pick_among(each.query, table.rows(each.places), size, old.head(before))
        same = path.agrees_with(old)
        # The pick at the first step that differs is the best of all rows: what beat the old one is all there.
        each.verified = max(before, min(complete, tested if same == tested else same + 1))
        stood = each.verified - before
        each.block = 2 * each.block if each.verified == tested else max(8, min(each.block, 2 * stood))
        each.path = path.head(min(n, each.verified + each.block))

    def _ask(self, question: Question[T], num_queries: int) -> list[T]:
        answers = self._pool.ask(question)
        self.stats.passes += 1
        self._on_pass(num_queries)
        return answers


class _Table:
    """Rows that were fetched for a batch of queries, each once."""

    def __init__(self) -> None:
        self.positions = np.empty(0, dtype=np.int64)
        self._parts: list[FetchedRows] = []
        self._joined: tuple[Tensor, np.ndarray, np.ndarray] | None = None
        self._place_of: dict[int, int] = {}

    def add(self, rows: FetchedRows) -> np.ndarray:
        """Take rows, and return their places here."""
        positions = rows.positions.tolist()
        new = [k for k, position in enumerate(positions) if position not in self._place_of]
        if new:
            for k in new:
                self._place_of[positions[k]] = len(self._place_of)
            some = np.array(new)
            at = torch.from_numpy(some)
            self._parts.append(FetchedRows(rows.positions[some], rows.ids[some], rows.features[at], rows.norms[at]))
            self.positions = np.concatenate([self.positions, rows.positions[some]])
            self._joined = None
        return np.array([self._place_of[position] for position in positions], dtype=np.int64)

    def rows(self, places: np.ndarray) -> Rows:
        """Return some rows in float64."""
        if self._joined is None:
            self._parts = [
                FetchedRows(
                    self.positions,
                    np.concatenate([part.ids for part in self._parts]),
                    torch.cat([part.features for part in self._parts]),
                    torch.cat([part.norms for part in self._parts]),
                )
            ]
            self._joined = self._parts[0].features, self._parts[0].ids, self._parts[0].norms.numpy()
        features, ids, norms = self._joined
        at = torch.from_numpy(places)
        return Rows(features[at].to(torch.float64).numpy(), norms[places], self.positions[places], ids[places])


def _picks(each: _Open, bounds: np.ndarray | None = None) -> QueryPicks:
    path = each.path
    assert path is not None
    return QueryPicks(each.number, path.positions, path.ids, path.gains, bounds)
