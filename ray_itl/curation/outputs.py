"""Turning picks into the files of a run directory, and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save
from torch import Tensor

from ray_itl.core.messages import Precision
from ray_itl.core.posterior import directions, uncertainty_along
from ray_itl.core.result import GreedyResult, GreedyStats
from ray_itl.core.rules import SimilarityGuard
from ray_itl.core.screening.copies import copy_bytes
from ray_itl.core.trajectory import Pick
from ray_itl.curation.heldout import HELDOUT_FILE
from ray_itl.curation.lengthscale import lengthscale_of
from ray_itl.curation.problem import Problem
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.io.atomic import write_atomic, write_json, write_parquet_table
from ray_itl.runs.directory import RunDirectory
from ray_itl.selection import EXPLANATION_COLUMNS, PICKS_FILE, RESERVED_COLUMNS, Selection
from ray_itl.sources.bad_rows import SKIPPED_FILE
from ray_itl.sources.base import PoolSource
from ray_itl.sources.ids import id_dtype, ids_to_arrow
from ray_itl.sources.lookup import ids_at
from ray_itl.sources.parquet import ParquetSource

_COST = "cost"


def check_columns(columns: Sequence[str], explain: bool, cost_column: str | None = None) -> None:
    """Raise ConfigError where a carried column would collide with one of ours."""
    ours = RESERVED_COLUMNS + EXPLANATION_COLUMNS if explain else RESERVED_COLUMNS
    if cost_column not in (None, _COST):  # if it is called that, it is carried as it is
        ours = (*ours, _COST)
    clash = sorted(set(columns) & set(ours))
    if clash:
        raise ConfigError(
            f"pool.columns={clash} would overwrite columns of the result ({', '.join(ours)}): leave them "
            "out, or rename them in the pool"
        )


def build_selection(
    problem: Problem, result: GreedyResult, columns: Sequence[str], explanation: pa.Table | None = None
) -> Selection:
    """Return the selection of a result, with the carried columns read from the pool, and its explanation if any."""
    positions = result.positions
    gains = np.array([pick.gain for pick in result.picks])
    files, rows = problem.source.locate(positions)
    table = pa.table(
        {
            "rank": pa.array(np.arange(1, len(gains) + 1)),
            "id": pick_ids(problem.source, result.picks),
            "gain": pa.array(gains),
            "cumulative_gain": pa.array(np.cumsum(gains)),
            "file": pa.array(files, pa.string()),
            "row": pa.array(rows),
        }
    )
    if problem.selection.cost_column is not None and _COST not in columns:
        table = table.append_column(_COST, pa.array([pick.cost for pick in result.picks], pa.float64()))
    if problem.selection.near_target == "flag":
        near = SimilarityGuard.around(problem.targets.rows, 1.0 - problem.selection.target_distance).excludes(
            result.features
        )
        table = table.append_column("near_target", pa.array(near.numpy()))
    carried = carried_columns(problem.source, positions, columns)
    for further in (carried, pa.table({}) if explanation is None else explanation):
        for name in further.column_names:
            table = table.append_column(further.schema.field(name), further.column(name))
    along = result.directions
    if along is None:
        along = directions(problem.posterior, result.features, problem.acquisition.noise_variance)
    curve = uncertainty_along(problem.posterior, problem.targets, along)
    return Selection(table, problem.acquisition.unit, problem.uncertainty_before * curve.numpy(), result.stats)


def carried_columns(source: PoolSource, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Return columns of the picks, or an empty table.

    Raises:
        InputError: they cannot be read (says that the picks are safe).
    """
    try:
        return source.take(positions, columns)
    except InputError as error:
        raise InputError(
            f"{error} (pool.columns={list(columns)}; the picks are made: the same run with fewer columns keeps them)"
        ) from error


def pick_ids(source: PoolSource, picks: Sequence[Pick]) -> pa.Array:
    """Return the picks' ids as an Arrow array of the pool's kind."""
    values = [pick.row_id for pick in picks]
    return ids_to_arrow(np.array(values, dtype=id_dtype(source.id_kind)))


def run_metrics(
    problem: Problem, selection: Selection, seconds: dict[str, float], bytes_per_row: int
) -> dict[str, Any]:
    """Return the contents of metrics.json."""
    stats = selection.stats
    copied = copy_bytes(cast(Precision, stats.precision), problem.dim)  # passes read copies, where there are some
    unsettled = unsettled_files(problem.source)
    return {
        "num_picks": len(selection),
        "num_asked": problem.selection.n,
        "total_gain": float(selection.gains.sum()),
        "unit": selection.unit,
        "remaining_uncertainty": selection.remaining_uncertainty.tolist(),
        "num_rows": problem.num_rows,
        **({"skipped_rows": len(problem.skipped)} if len(problem.skipped) else {}),
        **(
            {"heldout_rows": len(problem.contamination), "num_heldout": len(problem.heldout)} if problem.heldout else {}
        ),
        "dim": problem.dim,
        "num_targets": len(problem.targets.rows),
        "noise_variance": None if problem.noise_is_relative else problem.acquisition.noise_variance,
        **lengthscale_of(problem),
        "passes": stats.passes,
        "rows_scanned": stats.passes * problem.source.num_rows,
        "bytes_scanned": stats.passes * problem.source.num_rows * (copied or bytes_per_row),
        "feature_bytes": problem.source.num_rows * bytes_per_row,
        "blocks": stats.blocks,
        "challengers": stats.challengers,
        "contests": stats.contests,
        "escalations": stats.escalations,
        "precision": stats.precision,
        "doubtful": stats.doubtful,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "driver_peak_bytes": peak_bytes(),
        **({"unsettled_files": len(unsettled)} if unsettled else {}),
    }


def unsettled_files(source: PoolSource) -> Sequence[str]:
    """Return the files of a pool that were passed over, as they had changed less than pool.settle_s before."""
    return source.manifest.unsettled if isinstance(source, ParquetSource) else ()


def remarks_on(source: PoolSource) -> Sequence[str]:
    """Return what people should know of how the files of a pool are read, a line each."""
    return source.manifest.remarks if isinstance(source, ParquetSource) else ()


def peak_bytes() -> int | None:
    """Return this process's peak resident memory in bytes, where the system tells."""
    if sys.platform != "linux":
        return None
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def write_posterior(run: RunDirectory, problem: Problem, result: GreedyResult) -> None:
    """Write posterior.safetensors: the posterior after all picks (see `Posterior.tensors`), and the rule's options."""
    metadata = {
        "acquisition": problem.acquisition.name,
        "noise_variance": repr(problem.acquisition.noise_variance),
        "num_picks": str(len(result.picks)),
        "unit": problem.acquisition.unit,
    }
    write_atomic(run.path / "posterior.safetensors", save(result.state.posterior.tensors(), metadata))


def write_picks(run: RunDirectory, features: Tensor) -> None:
    """Write picks.safetensors: `features`, n x D in the storage dtype, of the picks in order, as the shards held them.

    With these as known rows, a later selection builds on this one.
    """
    write_atomic(run.path / PICKS_FILE, save({"features": features.contiguous()}))


def write_selection(run: RunDirectory, selection: Selection) -> None:
    """Write selection.parquet and metrics.json."""
    write_parquet_table(run.path / "selection.parquet", selection.table)
    write_json(run.path / "metrics.json", selection.metrics)


def write_challengers(run: RunDirectory, source: PoolSource, close_calls: np.ndarray) -> None:
    """Write challengers.parquet: position and id of rows that came close to beating a pick, for `verification`.

    A resumed run has only those since it was resumed; a baseline, and a run that held the whole pool, none.
    """
    ids = ids_to_arrow(ids_at(source, close_calls))
    table = pa.table({"position": pa.array(close_calls, pa.int64()), "id": ids})
    write_parquet_table(run.path / "challengers.parquet", table)


def read_selection(run: RunDirectory) -> Selection:
    """Return the selection of a finished run from its files."""
    metrics = run.read_metrics()
    stats = GreedyStats(
        passes=metrics["passes"],
        blocks=[tuple(block) for block in metrics["blocks"]],
        challengers=metrics["challengers"],
        contests=metrics["contests"],
        escalations=metrics["escalations"],
        precision=metrics["precision"],
        doubtful=metrics.get("doubtful", 0),
    )
    path = run.path / "selection.parquet"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}): restore it, or use another run.dir") from error
    curve = np.array(metrics["remaining_uncertainty"])
    skipped = run.path / SKIPPED_FILE
    listed = pq.read_table(skipped) if metrics.get("skipped_rows") and skipped.exists() else None
    heldout = run.path / HELDOUT_FILE
    near = pq.read_table(heldout) if "heldout_rows" in metrics and heldout.exists() else None
    return Selection(table, metrics["unit"], curve, stats, metrics, run.path, skipped=listed, heldout=near)
