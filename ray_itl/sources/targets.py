"""Reading the targets: the sample of the task that the picks should be informative about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolInput, PoolSource
from ray_itl.sources.open import open_rows
from ray_itl.sources.schema import which_row


@dataclass(frozen=True)
class TargetTable:
    """M target rows in memory."""

    embeddings: np.ndarray
    """M x D float64, finite."""
    weights: np.ndarray | None
    """M float64, finite and not negative, some positive; None if every target counts the same."""
    ids: np.ndarray | None
    """M int64 or StringDType; None if none were asked for."""
    tasks: list[str] | None = None
    """For each target the name of its task; None if none were asked for."""


def read_targets(
    target: PoolInput,
    *,
    embedding_column: str = "embedding",
    weight_column: str | None = None,
    id_column: str | None = None,
    task_column: str | None = None,
    filesystem: pafs.FileSystem | None = None,
    what: str = "targets",
) -> TargetTable:
    """Read all targets, from anything a pool may be (see `open_source`), in its order.

    `what` the rows are begins every message.

    Raises:
        InputError: it cannot be used as a pool; weights are not numbers, null, negative, not finite or all zero; or the
            task of a row is null.
    """
    try:
        columns = [column for column in (weight_column, task_column) if column]
        source = open_rows(target, id_column or "", embedding_column, columns, filesystem)
        embeddings = np.empty((source.num_rows, source.dim))
        ids = []
        row, bad = 0, BadRows()
        for batch_ids, batch in source.batches(0, source.num_rows, bad):
            embeddings[row : row + len(batch)] = batch
            ids.append(batch_ids)
            row += len(batch)
        if len(bad):  # never passed over: what the picks are about would be something else
            raise bad.refusal(source.locate)
        weights = _read_weights(source, weight_column) if weight_column else None
        tasks = _read_tasks(source, task_column) if task_column else None
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    return TargetTable(embeddings, weights, np.concatenate(ids) if id_column else None, tasks)


def _read_tasks(source: PoolSource, column: str) -> list[str]:
    """Return the M names of tasks, as text."""
    values = source.take(np.arange(source.num_rows), [column]).column(0)
    if values.null_count:
        files, rows = source.locate(np.array([values.is_null().to_pylist().index(True)]))
        raise InputError(
            f"{which_row(files[0], int(rows[0]))}: task column {column!r} is null; name the task of every target"
        )
    return [str(value) for value in values.to_pylist()]


def _read_weights(source: PoolSource, column: str) -> np.ndarray:
    """Return the M weights as float64, checked."""
    positions = np.arange(source.num_rows)
    values = source.take(positions, [column]).column(0)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise InputError(
            f"weight column {column!r} has type {values.type}, but weights are numbers; cast the column or "
            "name another one in weight_column"
        )
    # NaN stands in for null: it is as wrong, and the first wrong row is named below.
    weights = pc.fill_null(values.cast(pa.float64()), float("nan")).to_numpy()
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        files, rows = source.locate(wrong[:1])
        value = values[int(wrong[0])].as_py()
        raise InputError(
            f"{which_row(files[0], int(rows[0]))}: weight column {column!r} is {value}; a weight is a finite "
            "number that is not negative, so mend or drop the row"
        )
    if not weights.any():
        raise InputError(f"weight column {column!r} is zero in every row; give some target a positive weight")
    return weights
