"""Checking a finished run from its files: does selection.parquet say what the dense definition would have picked?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ray_itl.core.row_rules import CostsAndGroups
from ray_itl.curation.problem import Problem
from ray_itl.observability.console import JobSummary
from ray_itl.runs.ledger import Ledger
from ray_itl.shards.loading import rows_as_stored
from ray_itl.sources.costs_and_groups import costs_and_groups_at
from ray_itl.sources.lookup import ids_at
from ray_itl.sources.parquet import ParquetSource
from ray_itl.verification.eligibility import Breach, Eligibility
from ray_itl.verification.floor import wrong_floor
from ray_itl.verification.heldout import wrongly_held_out
from ray_itl.verification.queries import check_queries
from ray_itl.verification.reopen import ReopenedRun, read_table, reopen_run
from ray_itl.verification.replay import Replay, WrongGain, WrongStep
from ray_itl.verification.settings import VerifySettings
from ray_itl.verification.skipped import wrongly_skipped
from ray_itl.verification.stopping import StoppingCheck

_MAX_BREACHES = 20


@dataclass(frozen=True)
class Verification:
    """What a check found. A run is right when all four lists are empty."""

    acquisition: str
    num_picks: int
    num_steps: int
    """Steps replayed."""
    num_rows: int
    """Distinct pool rows that every replayed pick was compared with."""
    num_challengers: int
    contradictions: list[str]
    """Where the run's files contradict the pool or each other."""
    breaches: list[Breach]
    """Picks that limits did not allow at their step, of all picks."""
    wrong: list[WrongStep]
    wrong_gains: list[WrongGain]
    """Recorded gains that differ from the dense ones by more than 1e-6 of them."""
    seconds: float

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not self._num_faults

    @property
    def _num_faults(self) -> int:
        return len(self.contradictions) + len(self.breaches) + len(self.wrong) + len(self.wrong_gains)

    def summary(self) -> JobSummary:
        """Return the same as what the job says at its end."""
        faults = self._num_faults
        verdict = "right: every pick checked is the best of these rows at its step, and every gain agrees"
        if not self.right:
            verdict = f"WRONG: {faults:,} fault{'s' * (faults != 1)}, listed below"
        facts = {
            "right": self.right,
            "acquisition": self.acquisition,
            "picks": self.num_picks,
            "checked": self.num_steps,
            "rows": self.num_rows,
            "faults": self._details()[1:],
            "seconds": self.seconds,
        }
        return JobSummary(verdict, "\n".join(self._details()), facts)

    def _details(self) -> list[str]:
        lines = [
            f"checked {self.num_steps:,} of {self.num_picks:,} picks by {self.acquisition} against "
            f"{self.num_rows:,} rows, {self.num_challengers:,} of which came close, in {self.seconds:.1f} s"
        ]
        lines += [f"files: {text}" for text in self.contradictions]
        lines += [f"rank {b.rank}: {b.picked} might not be picked: {b.reason}" for b in self.breaches[:_MAX_BREACHES]]
        if len(self.breaches) > _MAX_BREACHES:
            lines.append(f"and {len(self.breaches) - _MAX_BREACHES:,} later picks that limits did not allow")
        if self.wrong:
            lines.append(f"{'rank':>6}  {'picked':<20} {'value':>14}  {'better':<20} {'value':>14}")
        lines += [
            f"{w.rank:>6}  {w.picked!s:<20} {w.value:>14.8g}  {w.better!s:<20} {w.better_value:>14.8g}"
            for w in self.wrong
        ]
        lines += [
            f"rank {g.rank}: recorded gain {g.recorded:.10g}, dense gain {g.dense:.10g}" for g in self.wrong_gains
        ]
        return lines


def verify(settings: VerifySettings) -> Verification:
    """Replay a finished run from its directory: was every pick the first in the total order, are the gains right?

    Every checked pick is compared with all picks, the rows that came close (challengers.parquet; those since the last
    resume) and a random sample of the pool, under the dense definition in float64, as far as limits let them be picked.
    A row counts as better when rounding cannot explain it. That limits allow a pick is checked of every one. With R
    rows compared (picks included), S steps, M targets and rows to avoid: time O(n^2 R + S R M^2), memory about 24 n^2
    bytes. 10,000 picks of 64 dimensions took a minute and 3 GiB on two cores. The columns of costs and quotas are read
    once more, and with `selection.share`, or a percentage as `selection.min_similarity`, all of the pool.

    Raises:
        InputError: no finished run there, or its pool, targets or known rows changed or are not files.
        ConfigError: an option out of range, or a rule that has nothing to check (random).
        RunDirectoryError: the ledger is damaged.
    """
    began = time.perf_counter()
    finished = reopen_run(settings.run.dir)
    source, folder = finished.source, finished.run.path
    table = read_table(folder / "selection.parquet")
    if finished.options.target.query_column is not None:
        faults = check_queries(finished, table, settings)
        return Verification(
            acquisition=finished.options.acquisition.name,
            num_picks=len(table),
            num_steps=faults.num_steps,
            num_rows=faults.num_rows,
            num_challengers=0,
            contradictions=faults.contradictions + wrongly_skipped(finished),
            breaches=[],
            wrong=faults.wrong,
            wrong_gains=faults.wrong_gains,
            seconds=time.perf_counter() - began,
        )
    challengers = read_table(folder / "challengers.parquet").column("position").to_numpy()
    positions, contradictions = _positions(table, source)
    steps = np.unique(np.linspace(0, len(table) - 1, settings.max_steps).astype(int)).tolist() if len(table) else []
    sample = np.random.default_rng(settings.seed).choice(
        source.num_rows, min(settings.sample, source.num_rows), replace=False
    )
    compared = _compared(positions, np.concatenate([challengers, sample]), finished.problem)
    found = _Found([], [], [], [])
    # A pick that the pool does not have cannot be conditioned on.
    if not contradictions:
        contradictions = _contradictions(finished, table, positions) + wrongly_skipped(finished)
        contradictions += wrongly_held_out(finished, compared) + wrong_floor(finished)
        found = _replayed(finished, table, compared, np.searchsorted(compared, positions), steps)
    return Verification(
        acquisition=finished.options.acquisition.name,
        num_picks=len(table),
        num_steps=len(steps),
        num_rows=len(compared),
        num_challengers=len(challengers),
        contradictions=contradictions + found.contradictions,
        breaches=found.breaches,
        wrong=found.wrong,
        wrong_gains=found.wrong_gains,
        seconds=time.perf_counter() - began,
    )


class _Found(NamedTuple):
    """Faults that a replay found (see Verification)."""

    contradictions: list[str]
    breaches: list[Breach]
    wrong: list[WrongStep]
    wrong_gains: list[WrongGain]


def _compared(positions: np.ndarray, others: np.ndarray, problem: Problem) -> np.ndarray:
    """Return the positions, ascending, of all picks and of those others that were not excluded."""
    others = others if problem.excluded is None else np.setdiff1d(others, problem.excluded)
    return np.unique(np.concatenate([positions[positions >= 0], others]))


def _replayed(
    finished: ReopenedRun, table: pa.Table, compared: np.ndarray, picks: np.ndarray, steps: list[int]
) -> _Found:
    """Replay picks, given as indices into the rows compared."""
    run, options, problem, source = finished
    rows = rows_as_stored(problem.feature_map, source.embeddings(compared), options.pool.dtype)
    spec = problem.cost_group_columns
    costs_and_groups = (
        CostsAndGroups.default(len(rows)) if spec is None else costs_and_groups_at(source, spec, compared)
    )
    excluded = np.zeros(len(rows), dtype=bool) if problem.excluded is None else np.isin(compared, problem.excluded)
    ids = ids_at(source, compared)
    whole = len(rows) - int(excluded.sum()) >= problem.num_free
    walk = Eligibility(problem, rows, ids, picks, costs_and_groups, excluded).walk(
        {*steps, len(picks)}, pool_is_whole=whole
    )
    prices = problem.limits.driver_rules.prices(costs_and_groups.costs).numpy()
    norm, objectives = run.read_metrics().get("mean_squared_norm"), problem.objectives
    replay = Replay(problem, options.acquisition, rows, ids, objectives, picks, prices, norm, walk.open_rows)
    gains = table.column("gain").to_numpy()
    wrong, wrong_gains = replay.check(steps, gains) if steps else ([], [])
    faults = StoppingCheck(
        replay, costs_and_groups, gains, run.read_metrics(), whole, options.pool.dtype
    ).contradictions()
    if problem.baseline is None and "cost" in table.column_names and spec is not None:
        faults += _wrong_costs(table.column("cost").to_numpy(), costs_and_groups.costs.numpy()[picks])
    return _Found(faults, walk.breaches, wrong, wrong_gains)


def _wrong_costs(recorded: np.ndarray, costs: np.ndarray) -> list[str]:
    """Compare the costs in selection.parquet with the pool's."""
    return [
        f"rank {rank + 1} of selection.parquet costs {recorded[rank]:g}, but the pool has {costs[rank]:g} there"
        for rank in np.flatnonzero(recorded != costs).tolist()
    ]


def _positions(table: pa.Table, source: ParquetSource) -> tuple[np.ndarray, list[str]]:
    """Return the global position of every pick by its file and row, -1 (and a complaint) where there is none."""
    positions, complaints = [], []
    for rank, (file, row) in enumerate(zip(*(table.column(c).to_pylist() for c in ("file", "row")), strict=True), 1):
        position = source.position_of(file, row)
        positions.append(-1 if position is None else position)
        if position is None:
            complaints.append(f"rank {rank} of selection.parquet is row {row} of {file!r}, which is not in the pool")
    return np.array(positions, dtype=np.int64), complaints


def _contradictions(finished: ReopenedRun, table: pa.Table, positions: np.ndarray) -> list[str]:
    """Compare selection.parquet with itself, the pool's ids and (for sequential rules) the ledger."""
    run, _, problem, source = finished
    found = []
    picks = table.column("id").to_pylist()
    gains = table.column("gain").to_numpy()
    n = 0 if problem.nothing_to_pick else problem.selection.n
    if run.read_metrics().get("stop", "n") != "n":  # then it may have ended before n picks
        n = min(n, len(picks))
    if len(picks) != n or table.column("rank").to_pylist() != list(range(1, n + 1)):
        found.append(f"selection.parquet does not hold ranks 1 to {n}")
    if not np.allclose(table.column("cumulative_gain").to_numpy(), np.cumsum(gains), rtol=1e-9, atol=0):
        found.append("cumulative_gain in selection.parquet is not the sum of its gains")
    for rank, (pick, true_id) in enumerate(zip(picks, ids_at(source, positions).tolist(), strict=True), 1):
        if pick != true_id:
            found.append(f"rank {rank} of selection.parquet has id {pick}, but the pool has {true_id} there")
    if problem.baseline is not None:
        return found
    entries = Ledger(run.path, allow_repeats=problem.selection.replacement).read()
    if len(entries) != len(picks):
        found.append(f"the ledger has {len(entries)} picks, selection.parquet {len(picks)}")
    for entry, pick, position, gain in zip(entries, picks, positions.tolist(), gains.tolist(), strict=False):
        if (entry.id, entry.position, entry.gain) != (pick, position, gain):
            found.append(
                f"rank {entry.step + 1} is id {pick} with gain {gain:.10g} in selection.parquet, id {entry.id} with "
                f"gain {entry.gain:.10g} in the ledger"
            )
    return found
