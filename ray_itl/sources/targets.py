"""Reading the targets: the sample of the task that the picks should be informative about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolInput, PoolSource
from ray_itl.sources.encoding import Encoding, RawColumn, encoding_of
from ray_itl.sources.open import open_rows
from ray_itl.sources.schema import which_row
from ray_itl.sources.types import plain
from ray_itl.sources.values import UnfitValueError, comparable_type, keys_of
from ray_itl.sources.written import how_to_write, keys_for


@dataclass(frozen=True)
class TargetTable:
    """M target rows in memory."""

    embeddings: np.ndarray
    """M x D float64, finite."""
    weights: np.ndarray | None
    """M float64, finite and not negative, some positive; None if every target counts the same."""
    ids: np.ndarray | None
    """M int64, uint64 or StringDType; None if none were asked for."""
    tasks: list[str] | None = None
    """For each target the name of its task; None if none were asked for."""
    task_column: pa.ChunkedArray | None = None
    """The same as the rows have it."""
    source: PoolSource | None = None
    """Where they were read from."""
    encoding: Encoding | None = None
    """What embedded them, if they had no embeddings."""
    digest: str | None = None
    """Then of what was embedded, in order."""

    def task_weights(self, weights: Mapping[Any, float]) -> dict[str, float]:
        """Return the weights of tasks by their names, given those by values of the task column, as options have them.

        Raises:
            ConfigError: a value that the column cannot hold, or that is named twice.
        """
        if self.tasks is None or self.task_column is None:
            return {str(value): weight for value, weight in weights.items()}
        kind = comparable_type(self.task_column.type) or pa.string()
        keys = [key for chunk in self.task_column.chunks for key in keys_of(chunk, kind)]
        names, found = dict(zip(keys, self.tasks, strict=True)), {}
        for value, weight in weights.items():
            try:
                name = next((names[key] for key in keys_for(value, kind) if key in names), str(value))
            except UnfitValueError as error:
                raise ConfigError(
                    f"target.task_weights: target.task_column is of type {kind}, which cannot hold {value!r} "
                    f"({error}): {how_to_write(kind)}"
                ) from error
            if name in found:
                raise ConfigError(f"target.task_weights names the task {name} twice: keep one weight")
            found[name] = weight
        return found


def read_targets(
    target: PoolInput,
    *,
    embedding_column: str = "embedding",
    weight_column: str | None = None,
    id_column: str | None = None,
    task_column: str | None = None,
    filesystem: pafs.FileSystem | None = None,
    what: str = "targets",
    group: str = "",
    task_word: str = "task",
    raw: RawColumn | None = None,
    on_rows: Callable[[int, int], object] = lambda _, __: None,
) -> TargetTable:
    """Read all targets, from anything a pool may be (see `open_source`), in its order.

    `what` the rows are begins every message, and the options that name columns are of that `group` ("target"). What
    `task_column` tells apart are tasks, or what `task_word` says. `raw` is as of `open_source`; `on_rows` is told how
    many rows are embedded, of how many.

    Raises:
        InputError: it cannot be used as a pool; weights are not numbers, null, negative, not finite or all zero; or the
            task of a row is null.
    """
    try:
        prefix = f"{group}." if group else ""
        named = {weight_column: f"{prefix}weight_column", task_column: f"{prefix}{task_word}_column"}
        columns = {column: option for column, option in named.items() if column}
        own = f"{prefix}id_column", f"{prefix}embedding_column"
        source = open_rows(target, id_column or "", embedding_column, columns, filesystem, *own, raw=raw)
        embeddings = np.empty((source.num_rows, source.dim))
        ids = []
        row, bad, encoding = 0, BadRows(), encoding_of(source)
        for batch_ids, batch in source.batches(0, source.num_rows, bad):
            embeddings[row : row + len(batch)] = batch
            ids.append(batch_ids)
            row += len(batch)
            if encoding is not None:
                on_rows(row, source.num_rows)
        if len(bad):  # never passed over: what the picks are about would be something else
            raise bad.refusal(source.locate)
        weights = _read_weights(source, weight_column, f"{prefix}weight_column") if weight_column else None
        tasks = _read_tasks(source, task_column, task_word) if task_column else None
        names = None if tasks is None else [str(value) for value in tasks.to_pylist()]
    except InputError as error:
        raise type(error)(f"{what}: {error}") from error
    told = np.concatenate(ids) if id_column else None
    digest = None if encoding is None else f"{encoding.digest} {encoding.contents}"
    return TargetTable(embeddings, weights, told, names, tasks, source, encoding, digest)


def _read_tasks(source: PoolSource, column: str, word: str) -> pa.ChunkedArray:
    """Return the M tasks, or what the word says they are."""
    values = source.take(np.arange(source.num_rows), [column]).column(0)
    if values.null_count:
        files, rows = source.locate(np.array([values.is_null().to_pylist().index(True)]))
        raise InputError(
            f"{which_row(files[0], int(rows[0]))}: {word} column {column!r} is null; name the {word} of every target"
        )
    if comparable_type(values.type) is None:
        raise InputError(f"{word} column {column!r} is of type {values.type}: name a column of text or numbers")
    return values


def _read_weights(source: PoolSource, column: str, option: str) -> np.ndarray:
    """Return the M weights as float64, checked."""
    positions = np.arange(source.num_rows)
    values = source.take(positions, [column]).column(0)
    values = plain(values)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InputError(
            f"weight column {column!r} has type {values.type}, but weights are numbers; cast the column or "
            f"name another one in {option}"
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
