"""Many queries at once from a loaded pool: from what a caller hands over to `queries.run`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import torch

from ray_itl.api import Loaded, is_path, list_text, opened_rows, path_text, rule_settings
from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.result_settings import RunSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.observability.reporter import Reporter
from ray_itl.queries.run import QuerySelection, select_queries
from ray_itl.sources.settings import KnownSettings, TargetSettings

_QUERY = "query"


class ManyOptions(TypedDict, total=False):
    """Options of `LoadedPool.select_many`; those that `select` has mean what they mean there, for all queries."""

    acquisition: str | Acquisition
    noise_variance: float | None
    relative_noise: float | None
    target_noise_variance: float | None
    known: Any
    columns: Sequence[str]
    filter: str | None
    weight_column: str | None
    exclude: Any
    include: Any
    min_similarity: float | str | None
    """As of `select`, for each query by its own targets: one after another, in a pass more each. The column
    `min_similarity` says which number it was for a query. Those with fewer rows above it have fewer picks."""
    nearest: int | None
    """Pick only among so many rows for each query, those of the largest gain before the first pick. `bound` then says
    what any other row of the pool could have gained at each step, at most: a pick that gains more is that of the whole
    pool, if those before it are."""
    run_dir: str | os.PathLike[str] | None
    quiet: bool


def select_for_each(
    loaded: Loaded, targets: Any, n: int | str, query_column: str | None, options: Mapping[str, Any]
) -> QuerySelection:
    """Select for every query; see `LoadedPool.select_many`."""
    given, rows = options.get, loaded.rows
    base, rule, run_dir = rows.settings, given("acquisition", "itl"), given("run_dir")
    embedding = base.pool.embedding_column
    own, column = _rows_of(targets, query_column, embedding)
    known, exclude, include = given("known"), given("exclude"), given("include")
    carried: Any = given("columns", ())
    noises = given("noise_variance"), given("target_noise_variance"), given("relative_noise")
    log = "quiet" if given("quiet", True) else "auto"
    settings = replace(
        base,
        pool=replace(base.pool, columns=carried if isinstance(carried, str) else list(carried), filter=given("filter")),
        target=TargetSettings(path_text(own), embedding, weight_column=given("weight_column"), query_column=column),
        known=KnownSettings(path_text(known), embedding),
        acquisition=rule_settings(rule, *noises),
        selection=replace(
            base.selection,
            n=n,
            exclude=list_text(exclude),
            include=list_text(include),
            nearest=given("nearest"),
            min_similarity=given("min_similarity"),
        ),
        run=RunSettings(None if run_dir is None else str(Path(run_dir).absolute()), log=log),
    )
    with opened_rows(own, settings) as rows_given, opened_rows(known, settings) as learnt:
        excluded, included = (None if is_path(ids) else ids for ids in (exclude, include))
        instance = None if isinstance(rule, str) else rule
        inputs = Inputs(loaded.pool, rows_given, learnt, None, excluded, included, instance, encoder=loaded.encoder)
        return select_queries(settings, inputs, Reporter(log), rows)


def _rows_of(targets: Any, query_column: str | None, embedding: str) -> tuple[Any, str]:
    """Return target rows with a column that names the query of each, and what it is called."""
    if query_column is not None:
        if isinstance(targets, np.ndarray | torch.Tensor):
            raise ConfigError(
                f"query_column={query_column}: an array has no columns: leave it out, or hand over a table"
            )
        return targets, query_column
    if isinstance(targets, np.ndarray | torch.Tensor):
        rows = _matrix(targets, "targets")
        return _table(np.arange(len(rows)), rows, embedding)
    if isinstance(targets, Mapping) and targets and not hasattr(targets, "with_format"):
        names, parts = list(targets), list(targets.values())
    elif isinstance(targets, list | tuple) and targets and not any(is_path(each) for each in targets):
        names, parts = list(range(len(targets))), list(targets)
    else:
        raise ConfigError(
            f"targets are of type {type(targets).__name__}: hand over a mapping or list of targets, a matrix, or rows "
            "with query_column"
        )
    matrices = [_matrix(part, f"targets of query {name!r}") for name, part in zip(names, parts, strict=True)]
    widths = {matrix.shape[1] for matrix in matrices}
    if len(widths) > 1:
        raise InputError(f"targets have embeddings of {sorted(widths)} dimensions: embed all by the same model")
    numbers = np.repeat(np.arange(len(names)), [len(matrix) for matrix in matrices])
    return _table(pa.array(names).take(pa.array(numbers)), np.concatenate(matrices), embedding)


def _matrix(rows: Any, what: str) -> np.ndarray:
    """Return rows as a matrix of floats; one row may be a vector."""
    values = rows.detach().cpu().float().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        raise InputError(f"{what} have shape {values.shape} and type {values.dtype}: hand over rows of floats")
    return values


def _table(names: Any, rows: np.ndarray, embedding: str) -> tuple[pa.Table, str]:
    column = _QUERY if embedding != _QUERY else "query_of_row"
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])
    return pa.table({column: names, embedding: values}), column
