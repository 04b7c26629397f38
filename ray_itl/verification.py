"""Checking a finished run from its files: does selection.parquet say what the dense definition would have picked?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.config import from_yaml
from ray_itl.errors import ConfigError, InputError
from ray_itl.identity import run_identity
from ray_itl.io.ids import ids_from_arrow
from ray_itl.io.ledger import Ledger
from ray_itl.io.loading import stored_rows
from ray_itl.io.parquet import ParquetSource
from ray_itl.io.run_directory import RunDirectory
from ray_itl.problem import Problem, open_problem
from ray_itl.replay import Replay, WrongGain, WrongStep
from ray_itl.settings import CurationSettings, VerifySettings
from ray_itl.telling.event import Ending
from ray_itl.ticks.reopen import reopen_tick


@dataclass(frozen=True)
class Verification:
    """What a check found. A run is right when all three lists are empty."""

    acquisition: str
    num_picks: int
    num_steps: int
    """Steps replayed."""
    num_rows: int
    """Distinct pool rows that every replayed pick was compared with."""
    num_challengers: int
    contradictions: list[str]
    """Where the run's files contradict the pool or each other."""
    wrong: list[WrongStep]
    wrong_gains: list[WrongGain]
    """Recorded gains that differ from the dense ones by more than 1e-6 of them."""
    seconds: float

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.contradictions or self.wrong or self.wrong_gains)

    def summary(self) -> str:
        """Return the verdict, what was checked and every fault, as lines for people."""
        return self.ending().text

    def ending(self) -> Ending:
        """Return the same as what the job says at its end."""
        faults = len(self.contradictions) + len(self.wrong) + len(self.wrong_gains)
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
        return Ending(verdict, "\n".join(self._details()), facts)

    def _details(self) -> list[str]:
        lines = [
            f"checked {self.num_steps:,} of {self.num_picks:,} picks by {self.acquisition} against "
            f"{self.num_rows:,} rows, {self.num_challengers:,} of which came close, in {self.seconds:.1f} s"
        ]
        lines += [f"files: {text}" for text in self.contradictions]
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
    resume) and a random sample of the pool, under the dense definition in float64. A row counts as better when
    rounding cannot explain it. With R rows compared (picks included), S steps and M targets: time O(n^2 R + S R M^2),
    memory about 24 n^2 bytes. 10,000 picks of 64 dimensions took a minute and 3 GiB on two cores.

    Raises:
        InputError: no finished run there, or its pool, targets or known rows changed or are not files.
        ConfigError: an option out of range, or a rule that has nothing to check (random).
        RunDirectoryError: the ledger is damaged.
    """
    began = time.perf_counter()
    run, options = _finished_run(settings)
    problem, source = _reopen(run, options)
    table = _read_table(run.path / "selection.parquet")
    challengers = _read_table(run.path / "challengers.parquet").column("position").to_numpy()
    positions, contradictions = _positions(table, source)
    steps = np.unique(np.linspace(0, len(table) - 1, settings.max_steps).astype(int)).tolist() if len(table) else []
    sample = np.random.default_rng(settings.seed).choice(
        source.num_rows, min(settings.sample, source.num_rows), replace=False
    )
    compared = np.unique(np.concatenate([positions[positions >= 0], challengers, sample]))
    if problem.excluded is not None:
        compared = np.setdiff1d(compared, problem.excluded)
    wrong, wrong_gains = [], []
    # A pick that the pool does not have cannot be conditioned on.
    if not contradictions:
        contradictions = _contradictions(run, table, positions, source, problem)
        features = stored_rows(problem.feature_map, source.embeddings(compared), options.pool.dtype)
        picks = np.searchsorted(compared, positions)
        replay = Replay(problem, options.acquisition, features, _ids(source, compared), picks)
        if steps:
            wrong, wrong_gains = replay.check(steps, table.column("gain").to_numpy())
        next_gain = run.read_metrics().get("next_gain")
        if next_gain is not None:
            contradictions += _wrong_end(replay, next_gain, options.selection.min_gain)
    return Verification(
        acquisition=options.acquisition.name,
        num_picks=len(table),
        num_steps=len(steps),
        num_rows=len(compared),
        num_challengers=len(challengers),
        contradictions=contradictions,
        wrong=wrong,
        wrong_gains=wrong_gains,
        seconds=time.perf_counter() - began,
    )


def _finished_run(settings: VerifySettings) -> tuple[RunDirectory, CurationSettings]:
    if settings.run.dir is None:
        raise ConfigError("run.dir is not set: name the directory of a finished run")
    run = RunDirectory(settings.run.dir)
    state = run.state
    if state != "finished":
        what = "an unfinished run: finish it with the command that began it, then check"
        what = "no run: name the directory of a finished one" if state == "new" else what
        raise InputError(f"run.dir={run.path} holds {what}")
    try:
        options = from_yaml((run.path / "config.yaml").read_text("utf-8"), CurationSettings)
    except OSError as error:
        raise InputError(f"{run.path / 'config.yaml'} cannot be read ({error.strerror}): restore it") from error
    if not options.can_be_verified:
        raise ConfigError(
            "runs with limits, lists of ids, several tasks or rows to avoid cannot be checked yet: the tests hold them "
            "to the dense reference"
        )
    if options.acquisition.name == "random":
        raise ConfigError("acquisition.name=random: random picks are the best of nothing, so there is nothing to check")
    for name, path in (("pool", options.pool.path), ("target", options.target.path), ("known", options.known.path)):
        if isinstance(path, str) and path.startswith("<"):
            raise InputError(f"{name} was in memory ({path}) and is gone: only runs on files can be checked")
    return run, options


def _reopen(run: RunDirectory, options: CurationSettings) -> tuple[Problem, ParquetSource]:
    if options.state.dir is None:
        problem = open_problem(options, options.pool.path, options.target.path, options.known.path)
    else:
        problem = reopen_tick(options, run.read_pool_manifest())
    changed = run.changes(run_identity(problem, options))
    if changed:
        raise InputError(
            f"run.dir={run.path}: what the run read is no longer what it was (changed: {', '.join(changed)}); restore "
            "it to check the run"
        )
    return problem, cast(ParquetSource, problem.source)


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}): restore it to check the run") from error


def _positions(table: pa.Table, source: ParquetSource) -> tuple[np.ndarray, list[str]]:
    """Return the global position of every pick by its file and row, -1 (and a complaint) where there is none."""
    manifest = source.manifest
    starts = manifest.file_starts.tolist()
    files = {f.path: (start, f.num_rows) for f, start in zip(manifest.files, starts, strict=False)}
    positions, complaints = [], []
    for rank, (file, row) in enumerate(zip(*(table.column(c).to_pylist() for c in ("file", "row")), strict=True), 1):
        start, num_rows = files.get(file, (0, 0))
        position = source.position(start + row) if 0 <= row < num_rows else None
        positions.append(-1 if position is None else position)
        if position is None:
            complaints.append(f"rank {rank} of selection.parquet is row {row} of {file!r}, which is not in the pool")
    return np.array(positions, dtype=np.int64), complaints


def _contradictions(
    run: RunDirectory, table: pa.Table, positions: np.ndarray, source: ParquetSource, problem: Problem
) -> list[str]:
    """Compare selection.parquet with itself, the pool's ids and (for sequential rules) the ledger."""
    found = []
    picks = table.column("id").to_pylist()
    gains = table.column("gain").to_numpy()
    n = 0 if problem.idle else problem.selection.n
    if run.read_metrics().get("next_gain") is not None:  # then it ended before n picks
        n = min(n, len(picks))
    if len(picks) != n or table.column("rank").to_pylist() != list(range(1, n + 1)):
        found.append(f"selection.parquet does not hold ranks 1 to {n}")
    if not np.allclose(table.column("cumulative_gain").to_numpy(), np.cumsum(gains), rtol=1e-9, atol=0):
        found.append("cumulative_gain in selection.parquet is not the sum of its gains")
    for rank, (pick, true_id) in enumerate(zip(picks, _ids(source, positions).tolist(), strict=True), 1):
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


def _wrong_end(replay: Replay, next_gain: float, min_gain: float) -> list[str]:
    """Compare the reason why a run made no more picks with what the rows compared would have added."""
    found = []
    if not next_gain < min_gain:
        found.append(
            f"the run ended for min_gain={min_gain:.10g}, but records that the next pick adds {next_gain:.10g}"
        )
    best = replay.best_left()
    if best is not None and best.value > next_gain + best.tolerance:
        found.append(f"the run ended at a next gain of {next_gain:.10g}, but row {best.row_id} adds {best.value:.10g}")
    return found


def _ids(source: ParquetSource, positions: np.ndarray) -> np.ndarray:
    name = source.manifest.id_column
    values = source.take(positions, [name]).column(0).combine_chunks()
    return ids_from_arrow(values, name, source.id_kind, lambda i: f"pool row {positions[i]}")
