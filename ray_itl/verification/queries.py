"""Checking a selection for many queries: a sample of them, each against the dense definition for it alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from ray_itl.core.reference import condition_kernel, dense_kernel
from ray_itl.curation.inputs import FROM_OPTIONS
from ray_itl.curation.percentage import share_of
from ray_itl.queries.parts import Parts
from ray_itl.queries.reading import Queries, read_queries
from ray_itl.shards.loading import rows_as_stored
from ray_itl.sources.lookup import ids_at
from ray_itl.verification.eligibility import nearest_cosines
from ray_itl.verification.floor import RecordedFloor, wrong_floors
from ray_itl.verification.reopen import ReopenedRun
from ray_itl.verification.replay import WrongGain, WrongStep, dense_definition
from ray_itl.verification.settings import VerifySettings

_QUERIES = 10
_TOLERANCE = 1e-6


@dataclass
class QueryFaults:
    """What was found, and of how much."""

    num_steps: int = 0
    num_rows: int = 0
    """Distinct rows that picks were compared with, of all queries."""
    contradictions: list[str] = field(default_factory=list)
    wrong: list[WrongStep] = field(default_factory=list)
    wrong_gains: list[WrongGain] = field(default_factory=list)


def check_queries(finished: ReopenedRun, table: pa.Table, settings: VerifySettings) -> QueryFaults:
    """Replay the picks of up to ten queries, spread evenly, among these and a random sample of the pool.

    Where only the nearest rows of each query were looked at, gains alone are checked.

    Args:
        finished: The run.
        table: Its selection.parquet.
        settings: How large the sample is.
    """
    source, found = finished.source, QueryFaults()
    queries = read_queries(finished.problem, finished.options, FROM_OPTIONS)
    picks = Parts(finished.run.path).read(source)
    asked = finished.problem.selection
    may_end = asked.min_similarity is not None  # a query then has fewer picks where no more rows are above its floor
    sizes = np.array([len(picks[k].positions) if k in picks else 0 for k in range(len(queries))])
    is_short = (sizes < asked.n).any() and not may_end
    if {*picks} - {*range(len(queries))} or len(table) != sizes.sum() or is_short or (sizes > asked.n).any():
        found.contradictions.append("selection.parquet and the files of queries/ are not of the same queries")
        return found
    firsts = np.cumsum(sizes) - sizes
    random = np.random.default_rng(settings.seed)
    sample = random.choice(source.num_rows, min(settings.sample, source.num_rows), replace=False)
    excluded = finished.problem.excluded
    sample = sample if excluded is None else np.setdiff1d(sample, excluded)
    compared, floors = [sample], []
    for number in np.unique(np.linspace(0, len(queries) - 1, _QUERIES).astype(int)).tolist():
        own = table.slice(int(firsts[number]), int(sizes[number]))
        if number not in picks:  # which is right where no row is above its floor
            if share_of(asked.min_similarity) is None:
                none = np.empty(0, dtype=np.int64)
                _replay(finished, queries, number, none, own, sample, found, asked.min_similarity)
            else:
                found.contradictions.append(
                    f"query {queries.names[number]} has no picks, but a share of the pool to pick"
                )
            continue
        if own.column("id").to_pylist() != picks[number].ids.tolist():
            found.contradictions.append(
                f"query {queries.names[number]}: selection.parquet and queries/ name other rows"
            )
            continue
        compared.append(picks[number].positions)
        floor = picks[number].floor
        if floor is not None:
            floors.append(RecordedFloor(f"query {queries.names[number]} of queries/", queries.targets[number], floor))
        _replay(finished, queries, number, picks[number].positions, own, sample, found, floor)
    found.contradictions += wrong_floors(finished, floors)
    found.num_rows = len(np.unique(np.concatenate(compared)))
    return found


def _replay(
    finished: ReopenedRun,
    queries: Queries,
    number: int,
    positions: np.ndarray,
    own: pa.Table,
    sample: np.ndarray,
    found: QueryFaults,
    floor: float | None,
) -> None:
    """Walk one query's picks by the dense definition; faults are added to what was found."""
    problem, options, source = finished.problem, finished.options, finished.source
    rule, targets = problem.acquisition, queries.targets[number]
    rows = np.union1d(sample, positions)
    features = rows_as_stored(problem.feature_map, source.embeddings(rows), options.pool.dtype)
    ids, gains_of = ids_at(source, rows), dense_definition(options.acquisition)
    target_noise = getattr(rule, "target_noise_variance", None)
    target_noise = rule.noise_variance if target_noise is None else target_noise
    kernel = dense_kernel(features, targets, problem.known, rule.noise_variance)
    is_open = torch.ones(len(rows), dtype=torch.bool)
    if floor is not None:
        is_open = torch.from_numpy(nearest_cosines(features, targets) >= floor)
    for rank, (position, recorded) in enumerate(zip(positions, own.column("gain").to_pylist(), strict=True), start=1):
        place = int(np.searchsorted(rows, position))
        gains = gains_of(kernel, len(rows), targets.weights, rule.noise_variance, target_noise)
        dense, best = float(gains[place]), int(gains.masked_fill(~is_open, -torch.inf).argmax())
        if abs(dense - recorded) > _TOLERANCE * max(abs(dense), abs(recorded)) + 1e-12:
            found.wrong_gains.append(WrongGain(rank, recorded, dense))
        if options.selection.nearest is None and float(gains[best]) > dense * (1 + _TOLERANCE) + 1e-12:
            better, picked = ids[best : best + 1].tolist()[0], ids[place : place + 1].tolist()[0]
            found.wrong.append(WrongStep(rank, picked, dense, better, float(gains[best])))
        if not is_open[place]:
            name = ids[place : place + 1].tolist()[0]
            found.contradictions.append(f"query {queries.names[number]}: row {name} of rank {rank} is below its floor")
        is_open[place] = False
        kernel = condition_kernel(kernel, place, rule.noise_variance)
        found.num_steps += 1
    if len(positions) < problem.selection.n and is_open.any():
        left = ids[is_open.numpy()][:1].tolist()[0]
        found.contradictions.append(
            f"query {queries.names[number]} ended after {len(positions)} picks, but row {left} might be picked"
        )
