"""The rows of a pool, loaded once for many selections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.posterior import Targets
from ray_itl.curation.feature_map import build_feature_map
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.lengthscale import with_lengthscale
from ray_itl.curation.pool import OpenPool, open_pool
from ray_itl.curation.pool_rows import as_it_was, columns_read, open_pool_rows
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.errors import InputError
from ray_itl.observability.reporter import Reporter
from ray_itl.shards.part import PartPool, PoolPart
from ray_itl.sources.bad_rows import REMEDY, BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.condition import RowMask
from ray_itl.sources.costs_and_groups import CostGroupColumns
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.open import columns_of, narrow
from ray_itl.sources.parquet import ParquetSource
from ray_itl.text import plural

if TYPE_CHECKING:
    from ray_itl.distributed.ray_pool import RayPool

_MOST_PARTS = 8
"""Parts that are remembered, of which each takes a bit a row."""


@dataclass(frozen=True)
class _Part:
    """What some options make of the pool."""

    columns: dict[str, str]
    condition: str | None
    whole: PoolSource
    """All rows that are loaded, with these columns."""
    source: PoolSource
    """Those of them that meet the condition."""
    kept: RowMask | None
    """Which they are; None: all."""


class LoadedRows:
    """All rows of a pool, here or on Ray, of which selections use those that meet their filters; one at a time.

    What no filter, cost or quota looks at is never read again. Which rows meet a filter is found by reading the columns
    that it names, and remembered; the shards pass over the others.
    """

    def __init__(self, settings: CurationSettings, inputs: Inputs, source: PoolSource, opened: OpenPool) -> None:
        """Take a pool that was loaded; see `load_rows`."""
        self._settings = settings
        self._inputs = inputs
        self._source = source
        self._opened = opened
        self._parts: list[_Part] = []
        self._is_narrowed = False
        self.notify: Callable[[str], None] = lambda _: None
        """Told, in a line, what is not as it was when the pool was loaded."""

    @property
    def num_rows(self) -> int:
        """Number of rows that can be used."""
        return self._source.num_rows - len(self._opened.bad)

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self._opened.pool.dim

    @property
    def settings(self) -> CurationSettings:
        """What the pool was loaded with."""
        return self._settings

    def source(self, settings: CurationSettings) -> PoolSource:
        """Return the rows that meet some options, which differ from those of the loading by what is asked of columns.

        Raises:
            InputError: files of the pool are not what they were, or the options name columns that cannot be used.
            ConfigError: a filter that cannot be used.
        """
        columns, condition = columns_read(settings), settings.pool.filter
        found = next((p for p in self._parts if (p.columns, p.condition) == (columns, condition)), None)
        if found is None:
            looked_at = {} if condition is None else dict.fromkeys(columns_of(condition), "pool.filter")
            whole = self._with_columns(settings, {**looked_at, **columns})
            source, kept = (whole, None) if condition is None else narrow(whole, condition)
            found = _Part(columns, condition, whole, source, kept)
        # The one used last comes last.
        self._parts = [*(part for part in self._parts if part is not found), found][-_MOST_PARTS:]
        return found.source

    @contextmanager
    def opened(self, problem: Problem, settings: CurationSettings) -> Iterator[OpenPool]:
        """Yield the rows of a problem whose source came from `source`."""
        del settings
        part = next(part for part in self._parts if part.source is problem.source)
        bad = BadRows()
        pool = self._narrowed(part, problem.cost_group_columns, bad)
        bad.extend(self._opened.bad)
        if part.kept is not None:
            kept, rows = part.kept, list(bad)
            rows = [row for row in rows if kept.slice(row.position, row.position + 1)[0]]
            numbers = kept.numbers(np.array([row.position for row in rows], dtype=np.int64)).tolist()
            bad = BadRows([row._replace(position=number) for row, number in zip(rows, numbers, strict=True)])
            pool = PartPool(pool, kept)
        yield replace(self._opened, pool=pool, bad=bad)

    def _narrowed(self, part: _Part, costs: CostGroupColumns | None, bad: BadRows) -> Pool:
        """Return the pool of which no row but a part's is in use; positions are those of the whole."""
        whole = self._opened.pool
        own = PoolPart(part.kept, costs, isinstance(part.whole, TableSource) and not part.whole.has_ids)
        if own.is_all and not self._is_narrowed:
            return whole
        if isinstance(whole, LocalPool):
            shards = whole.shards
            parts = [own.of_shard(s.first_position, s.first_position + s.num_rows) for s in shards]
            return LocalPool([each.of(s, part.whole, bad) for each, s in zip(parts, shards, strict=True)])
        read_from = part.whole if isinstance(part.whole, ParquetSource) else self._opened.read_from
        assert read_from is not None, "shards in other processes read from files"
        cast("RayPool", whole).narrow(read_from, own, bad)
        self._is_narrowed = not own.is_all
        return whole

    def _with_columns(self, settings: CurationSettings, columns: dict[str, str]) -> PoolSource:
        """Return all loaded rows, opened anew where columns are asked for that were not asked for so far."""
        source = self._source
        if not columns:
            return source
        for part in self._parts:
            if isinstance(part.whole, ParquetSource) and columns.items() <= part.whole.manifest.schema.options.items():
                return part.whole
        manifest = source.manifest if isinstance(source, ParquetSource) else None
        asked = as_it_was(replace(settings, pool=self._settings.pool), manifest)
        again = open_pool_rows(asked, self._inputs, columns)  # raises where a column is not there
        return self._as_loaded(again) if isinstance(again, ParquetSource) else source

    def _as_loaded(self, again: PoolSource) -> PoolSource:
        """Return the files of a pool that was opened again, less those that have come since.

        Raises:
            InputError: others are not what they were.
        """
        assert isinstance(self._source, ParquetSource)
        assert isinstance(again, ParquetSource)
        before = {file.path: file for file in self._source.manifest.files}
        now = {file.path: file for file in again.manifest.files}
        for path, file in before.items():
            if path not in now or now[path].fingerprint != file.fingerprint:
                what = "is not there any more" if path not in now else "has changed"
                raise InputError(f"file {path!r} {what} since the pool was opened: restore it, or open the pool again")
        come = len(now) - len(before)
        if not come:
            return again
        self.notify(f"{plural(come, 'file')} came since the pool was opened, and are no part of it: open it again")
        return again.only([now[path] for path in now if path in before])


@contextmanager
def load_rows(settings: CurationSettings, inputs: Inputs, reporter: Reporter) -> Iterator[LoadedRows]:
    """Load a pool and yield its rows; frees them afterwards.

    Args:
        settings: Of the pool and the cluster; what else they say is that of no selection.
        inputs: The pool, where the caller holds it in memory.
        reporter: Told about loading.

    Raises:
        InputError: rows that cannot be read; BadRowsError where some cannot be used and pool.on_bad_row is refuse.
        ConfigError, NoRoomError, ShardError, CacheError: as of `pool.open_pool`.
    """
    with reporter.stage("open"):
        source = open_pool_rows(settings, replace(inputs, on_text=reporter.texts()))
        feature_map = build_feature_map(settings, source, reporter.info)
        dim = feature_map.dim(source.dim)
    nothing = Targets.uniform(torch.zeros(1, dim, dtype=torch.float64))
    # What is loaded depends on no target: any will do.
    problem = Problem(source, feature_map, nothing, None, None, InformationGain(1.0), SelectionSettings(1))
    settings = with_lengthscale(settings, problem)
    further = source.columns_of("") if isinstance(source, TableSource) else []
    with open_pool(problem, settings, reporter, further_columns=further) as opened:
        if len(opened.bad):
            if settings.pool.on_bad_row == "refuse" or len(opened.bad) == source.num_rows:
                raise opened.bad.refusal(source.locate, REMEDY)
            reporter.info(f"  {plural(len(opened.bad), 'row')} cannot be used: passed over")
        yield LoadedRows(settings, inputs, source, opened)
