"""Exact greedy selection in few passes: speculate on the driver, verify over the pool.

Each turn of the loop runs B greedy steps over the candidates the driver holds, asks the pool, in one pass, for every
row that might beat one of these picks, and accepts the picks before the first that is truly beaten. The row that
beats it is the true argmax at that step, so the next block begins with it and a pass always yields one more pick.
Every pick is the first of the whole pool in the total order of `decision`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.criteria import Criteria
from ray_itl.core.decision import TotalOrder, gain_scale
from ray_itl.core.limits import Limits
from ray_itl.core.messages import PRECISIONS, Block, ExactSearch, Precision, Request, ScoreSpec, merge_batches
from ray_itl.core.pool import Pool
from ray_itl.core.result import GreedyResult, GreedyStats, Progress, Stop
from ray_itl.core.rules import OPEN, Gate
from ray_itl.core.screening.speed import first_precision
from ray_itl.core.speculation import Returned, SpeculatedPicks, band_holds, count_true_picks
from ray_itl.core.trajectory import Pick, Trajectory
from ray_itl.errors import ConfigError, NumericalError

_MANY_DOUBTS: dict[str, float] = {"int8": 0.03, "bfloat16": 0.03, "float32": 0.12, "float64": 1.0}
"""The share of the pool that a pass may leave in doubt: scoring more exactly takes as long as a more precise pass."""
_FEW_DOUBTS = 2000
_NONE = np.empty(0, dtype=np.int64)
_MAX_CLOSE_CALLS = 2000
_ROOT_ERROR = 64 * 2.0**-52
_LARGEST_NOISE = 1e10
_MORE_NOISE = "raise acquisition.noise_variance, or set pool.features=unit_norm"


class GreedySelector:
    """One exact greedy selection over a pool, of which it must be the only user meanwhile.

    Args:
        pool: The pool.
        acquisition: The rule.
        state: The rule's state before the first pick: `acquisition.start(posterior, targets)`.
        replacement: Whether a row may be picked more than once.
        schedule: Sizes of blocks and candidate sets; they change the time taken, never the picks.
        on_progress: Called after each accepted block; an exception in it ends the selection.
        limits: Costs, quotas and the like, and when to stop before n picks.
        excluded: Positions (distinct int64) of rows that may not be picked.
        screening: What rows are screened in to begin with (see `screening`); None chooses what is fastest here.
        may_copy: Whether what is chosen may be copies, which take memory beside the rows.
    """

    def __init__(
        self,
        pool: Pool,
        acquisition: Acquisition,
        state: AcquisitionState,
        replacement: bool = False,
        schedule: BlockSchedule | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        limits: Limits | None = None,
        excluded: np.ndarray = _NONE,
        screening: Precision | None = None,
        may_copy: bool = True,
    ) -> None:
        self._pool = pool
        self._limits = limits or Limits()
        self._schedule = (schedule or BlockSchedule()).fit(pool.dim, pool.num_rows)
        self._on_progress = on_progress
        self._state = state
        self._excluded = excluded
        self._num_available = pool.num_rows - len(excluded)
        rules = self._limits.rules
        scale = gain_scale(acquisition, state, pool.mean_squared_norm())
        self._asked, self._may_copy = screening, may_copy
        self._start = ScoreSpec.of(acquisition, state, "float64", scale, rules, self._limits.floor)
        total_order = TotalOrder(acquisition, self._start.magnitudes, scale)
        self._criteria = Criteria(total_order, self._limits.driver_rules, replacement, self._limits.min_gain)
        self._share_target = self._limits.share_target
        self._next_gain: float | None = None
        self._stop: Stop | None = None
        self._settled, self._started = 0, 0
        self._sequence = 0
        self._accepted = 0
        self._decided = False
        self._released = _NONE
        self._close_calls = _NONE
        self.stats = GreedyStats()

    def select(self, n: int, earlier: Sequence[tuple[Pick, Tensor]] = ()) -> GreedyResult:
        """Pick until n rows are picked, or the limits say that it is enough, or no further row may be picked.

        Args:
            n: Number of rows in all, 1 <= n (<= N less those excluded, without replacement).
            earlier: Picks of an interrupted run of the same selection with their features (D float64 each): they
                count towards n and are not picked again.

        Returns:
            All picks, the earlier ones included; perhaps none.

        Raises:
            ConfigError: n out of range.
            NumericalError: float64 cannot resolve the noise variance against the rows' norms.
        """
        if n < 1 or (n > self._num_available and not self._criteria.replacement):
            raise ConfigError(f"selection.n={n}, but the pool has {self._num_available} rows: ask for 1 to that many")
        self._begin(n, earlier)
        trajectory = self._trajectory
        while len(trajectory.picks) < n and self._stop is None:
            if not len(trajectory.candidates):
                self._refill()
            size = min(self._block_size(), n - len(trajectory.picks))
            plan = trajectory.speculate(size)
            if not plan.picks:
                self._find_more()
                continue
            new = self._accept_all(plan) if self._holds_all() else self._verify(plan)
            if new and self._on_progress is not None:
                self._on_progress(Progress(new, len(trajectory.picks), n, self.stats))
        return GreedyResult(
            trajectory.picks,
            trajectory.features_since(0),
            trajectory.state,
            self.stats,
            np.unique(self._close_calls),
            self._next_gain,
            self._stop or "n",
            trajectory.directions(),
        )

    def _begin(self, n: int, earlier: Sequence[tuple[Pick, Tensor]]) -> None:
        start, acquisition = self._start, self._start.acquisition
        noise, largest = acquisition.noise_variance, self._pool.largest_norm()
        # Variances come from roots, which are exact to some D eps of the longest row: below is only rounding.
        if noise < (_ROOT_ERROR * self._pool.dim) ** 2 * largest:
            raise self._unresolved(_MORE_NOISE)
        # Picks lower variances by shares of |x|^2 / s2: below eps they are lost, and all rows would tie.
        if noise > _LARGEST_NOISE * largest > 0:
            raise self._unresolved("lower acquisition.noise_variance, or leave it out for one relative to the rows")
        if acquisition.is_certified:
            pool = self._pool
            chosen = self._asked or first_precision(
                pool.num_rows, pool.dim, noise, largest, self._may_copy, acquisition.integer_noise
            )
            self._start = replace(start, precision=chosen)
        self.stats.precision = self._start.precision
        limit_state = self._limits.limit_state(n)
        self._trajectory = Trajectory(
            self._criteria, self._start, self._state, limit_state, self._schedule.focus, self._excluded
        )
        self._trajectory.replay(earlier)
        self._schedule = self._schedule.for_picks(n, self._pool.dim)
        self._share_target = self._share_target.given(self._trajectory.state.posterior)
        self._stop = "share" if self._share_target.is_reached else None
        self._restore()
        self._refill()

    def _refill(self) -> bool:
        """Take in rows that may be picked now; returns whether there were any."""
        unsettled = self._trajectory.features_since(self._settled) if self._excludes_similar_picks else None
        batch = self._pool.propose(Request(self._schedule.candidates, self._gate(), unsettled))
        self._trajectory.hold(batch)
        return len(batch) > 0

    def _find_more(self) -> None:
        """Where no candidate may be picked: look for other rows, give up minimums that have none left, or end."""
        trajectory = self._trajectory
        if self._refill():
            return
        relaxed = trajectory.limit_state.relax()
        if relaxed is None:
            self._stop = "no_rows"
        else:
            trajectory.limit_state = relaxed

    @property
    def _excludes_similar_picks(self) -> bool:
        return self._criteria.rules.excludes_similar_picks

    def _gate(self) -> Gate:
        return OPEN if self._start.rules is None else self._trajectory.gate

    def _restore(self) -> None:
        """Bring the whole pool to the committed state: from what it has taught, not pick by pick.

        That has D directions at most, and errors are those of its size, which falls with every pick.
        """
        trajectory = self._trajectory
        self._sequence, self._accepted, self._settled = 0, 0, len(trajectory.picks)
        self._started = len(trajectory.picks)
        self._start = self._start.at(trajectory.state)
        trajectory.begin_anew(self._start)
        picks = trajectory.features_since(0) if self._excludes_similar_picks else None
        self._pool.restore(self._start, trajectory.held, picks)
        self.stats.passes += 1

    def _block_size(self) -> int:
        size = self._schedule.max_block if self._holds_all() else self._schedule.block
        return size if self._criteria.replacement else min(size, len(self._trajectory.candidates))

    def _holds_all(self) -> bool:
        """Whether every row of the pool is held, so that speculation is already exact."""
        return len(self._trajectory.held) == self._pool.num_rows

    def _accept_all(self, plan: SpeculatedPicks) -> list[Pick]:
        accepted = self._count_worthwhile(plan, len(plan.picks))
        self.stats.blocks.append((len(plan.picks), accepted))
        return self._trajectory.accept(plan, accepted)

    def _count_worthwhile(self, plan: SpeculatedPicks, num_true: int) -> int:
        """Return how many of the first `num_true` picks, all true, come before the end of the run."""
        candidates, share_target = self._trajectory.candidates, self._share_target
        for step, (index, gain) in enumerate(zip(plan.picks[:num_true], plan.gains, strict=False)):
            cost = float(candidates.costs[index])
            if not self._criteria.is_worthwhile(gain, cost):
                self._next_gain, self._stop, self._share_target = gain / cost, "min_gain", share_target
                return step
            share_target = share_target.after(plan.columns[:, :1, step])
            if share_target.is_reached:
                self._stop, self._share_target = "share", share_target
                return step + 1
        self._share_target = share_target
        return num_true

    def _verify(self, plan: SpeculatedPicks) -> list[Pick]:
        """Let the pool test a plan; commit the picks that are true and take in the rows that came back."""
        trajectory = self._trajectory
        report = self._pool.verify(self._block(plan))
        self.stats.passes += 1
        self.stats.challengers += len(report.challengers)
        close_calls = np.concatenate([self._close_calls, report.challengers.positions])
        self._close_calls = close_calls[-_MAX_CLOSE_CALLS:]
        self.stats.doubtful += report.num_doubtful
        self._settled = len(trajectory.picks)
        returned = Returned.score(self._criteria, trajectory.state, report.challengers, plan)
        if not (report.holds and band_holds(self._start, returned, report.proposals, plan)):
            # A row beyond the bound may have been missed: nothing of this pass counts, but the rows are held by now.
            trajectory.hold(merge_batches([report.challengers, report.proposals]))
            self._climb()
            return []
        num_true = count_true_picks(self._criteria, trajectory.state, trajectory.candidates, plan, returned)
        # From verified_steps on there may be challengers that were not handed over.
        accepted = self._count_worthwhile(plan, min(num_true, report.verified_steps))
        self.stats.blocks.append((len(plan.picks), accepted))
        new = trajectory.accept(plan, accepted)
        trajectory.hold_returned(returned, plan, accepted)
        trajectory.hold(report.proposals)  # none of them beats a pick of this block: they need no scores before it
        self._sequence, self._accepted = self._sequence + 1, accepted
        # The row that beat a pick is now held, and is the best of all: the next block's first pick needs no proof.
        self._decided = num_true < min(len(plan.picks), report.verified_steps)
        self._schedule = self._schedule.adapt(accepted, len(plan.picks))
        if accepted == 0 and not self._decided and self._stop is None:
            # Too many rows beside the very first pick: further passes would only cut the block again.
            self._search_exactly(plan)
        self._release()
        if report.num_doubtful > _MANY_DOUBTS[self._start.precision] * self._pool.num_rows + _FEW_DOUBTS:
            self._sharpen()
        return new

    def _release(self) -> None:
        """Let go of all but the best candidates, but never of the next pick: among many copies it may rank anywhere."""
        candidates, limit = self._trajectory.candidates, self._schedule.candidates
        if len(candidates) > limit:
            best = self._trajectory.best()
            always = None if best is None else best.place
            self._released = candidates.keep_best(limit, self._trajectory.values(), always)

    def _block(self, plan: SpeculatedPicks) -> Block:
        values = plan.values.clone()
        if self._decided:
            values[0] = float("inf")
        released, self._released = self._released, _NONE
        return Block(
            sequence=self._sequence,
            accepted=self._accepted,
            columns=plan.columns,
            values=values,
            released=released,
            num_proposals=self._schedule.proposals,
            max_challengers=self._schedule.max_challengers,
            gate=OPEN if self._start.rules is None else plan.gate,
            picks=plan.features if self._excludes_similar_picks else None,
            state=self._trajectory.state,
        )

    def _sharpen(self) -> None:
        """Have fewer rows in doubt: start anew from what has been learnt since, or else screen in more digits."""
        if self._start.precision == "float32" and len(self._trajectory.picks) - self._started >= self._schedule.block:
            self._released, self._decided = _NONE, False
            self._restore()
        else:
            self._climb()

    def _climb(self) -> None:
        """Screen in the next precision from now on."""
        higher = PRECISIONS[PRECISIONS.index(self._start.precision) + 1 :]
        if not higher:
            raise self._unresolved(_MORE_NOISE)
        # What was chosen for speed gives way to the rows themselves, which take no memory of their own.
        precision = next(each for each in higher if each in ("float32", "float64"))
        self._start = replace(self._start, precision=precision)
        self.stats.precision = precision
        self.stats.escalations += 1
        self._released, self._decided = _NONE, False
        self._restore()

    def _unresolved(self, remedy: str) -> NumericalError:
        return NumericalError(
            f"float64 cannot resolve the noise variance ({self._start.acquisition.noise_variance:g}) beside rows of "
            f"squared norm up to {self._pool.largest_norm():g}: {remedy}"
        )

    def _search_exactly(self, plan: SpeculatedPicks) -> None:
        """Find the next pick exactly when more rows may be the next pick than a pass may return."""
        trajectory = self._trajectory
        self.stats.contests += 1
        self.stats.passes += 1
        search = ExactSearch(self._sequence, self._accepted, trajectory.state, plan.values[:1], self._gate())
        own, held = trajectory.best(), trajectory.candidates
        assert own is not None, "the plan's first pick is a candidate that may be picked"
        price = float(self._criteria.rules.prices(held.costs[own.place : own.place + 1])[0])
        best = max(self._pool.search_exactly(search), own.gain / price)
        self._settled = len(trajectory.picks)
        trajectory.hold(self._pool.tied_winners(best))
        self._sequence, self._accepted, self._decided = self._sequence + 1, 0, True
