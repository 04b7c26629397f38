"""Opening the pool of a problem: in this process, or sharded over Ray actors.

Rows in memory are written to Parquet first where shards in other processes must read their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from ray_itl.core.messages import RowBatch
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.ranking import RankQuery
from ray_itl.core.result import Progress
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.distributed.placement import ShardPlan, plan_in_process
from ray_itl.io.temporary import temporary_folder
from ray_itl.observability.reporter import Reporter
from ray_itl.runs.fingerprint import pool_fingerprint
from ray_itl.shards.disk_loading import load_disk_shard
from ray_itl.shards.footprint import STATE_BYTES, Screening, Storage, StorageOptions, available_memory
from ray_itl.shards.loading import STORAGE_DTYPES, RowRange, repeated_id_error
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.encoding import Encoding, RawColumn, encoding_of
from ray_itl.sources.ids import ids_to_arrow
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.open import open_source
from ray_itl.sources.parquet import ParquetSource
from ray_itl.text import parse_size

_ROWS_PER_GROUP = 65536


def write_to_parquet(
    source: PoolSource, folder: str | Path, columns: Sequence[str] = (), bad: BadRows | None = None
) -> ParquetSource:
    """Write ids, embeddings and some columns of a source as one Parquet file and open it; positions stay the same.

    Args:
        source: Any source.
        folder: An existing directory that every shard can read.
        columns: Further columns, none of them called "id" or "embedding" unless it is that.
        bad: Collects bad rows, whose embeddings are written as nulls; None: there may be none.
    """
    path = Path(folder) / "pool.parquet"
    writer: pq.ParquetWriter | None = None
    first = 0
    try:
        for ids, rows in source.batches(0, source.num_rows, bad):
            values, lost = pa.array(rows.reshape(-1)), np.zeros(len(ids), dtype=bool)
            lost[[] if bad is None else bad.within(first, first + len(ids))] = True
            embedding = pa.FixedSizeListArray.from_arrays(values, source.dim, mask=pa.array(lost))
            carried = source.take(np.arange(first, first + len(ids)), columns)
            batch = pa.table({**dict(zip(columns, carried.columns, strict=True)), "id": ids_to_arrow(ids)})
            batch = batch.append_column("embedding", embedding)
            first += len(ids)
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="none")
            writer.write_table(batch, row_group_size=_ROWS_PER_GROUP)
    finally:
        if writer is not None:
            writer.close()
    opened = open_source(path, id_column="id", embedding_column="embedding")
    assert isinstance(opened, ParquetSource)
    return opened


def _write_raw_to_parquet(
    source: TableSource, encoding: Encoding, folder: Path, columns: Sequence[str], bad: BadRows
) -> ParquetSource:
    """Write ids, some columns and that to be embedded as one Parquet file and open it, as `write_to_parquet` does."""
    path, names, first = folder / "pool.parquet", list(dict.fromkeys([encoding.column, *columns])), 0
    writer: pq.ParquetWriter | None = None
    try:
        for ids, rows in source.row_batches(0, source.num_rows, names, bad):
            lost = np.zeros(len(ids), dtype=bool)
            lost[bad.within(first, first + len(ids))] = True
            batch = pa.Table.from_batches([rows]).combine_chunks()
            if lost.any():
                values = pc.call_function(
                    "if_else", [pa.array(~lost), rows.column(0), pa.scalar(None, rows.column(0).type)]
                )
                batch = batch.set_column(0, rows.schema.field(0), values)
            batch = pa.table({**dict(zip(names, batch.columns, strict=True)), "id": ids_to_arrow(ids)})
            first += len(ids)
            writer = writer or pq.ParquetWriter(path, batch.schema)
            writer.write_table(batch, row_group_size=_ROWS_PER_GROUP)
    finally:
        if writer is not None:
            writer.close()
    opened = open_source(path, id_column="id", raw=RawColumn(encoding, encoding.column, "pool.text_column"))
    assert isinstance(opened, ParquetSource)
    return opened


_SCORE_BYTES, _TRAIT_BYTES, _SIMILARITY_BYTES = 8, 16, 4
_LEAST_EMBEDDED_ROWS = 1024
"""To embed so many takes longer than to start a process."""


@dataclass(frozen=True)
class OpenPool:
    """A loaded pool, and who wants to know what is picked from it."""

    pool: Pool
    bad: BadRows
    """Rows that cannot be used, whether they are excluded or not."""
    num_embedded: int = 0
    """Rows that were embedded, as their embeddings were not known."""
    has_room_for_copies: bool = True
    """Whether rows may be screened by copies beside them."""
    on_progress: Callable[[Progress], None] = lambda _: None
    """Counts picks and passes on Ray's metrics page, where there is one."""
    on_disk: bool = False
    """Whether a pass reads features from disk."""
    read_from: PoolSource | None = None
    """Where shards in other processes read their rows, if there are such: rows in memory were written to a file."""

    def sample(self, count: int) -> RowBatch:
        """Return rows drawn at random, fixed by their ids, of those that can be used; fewer where most cannot.

        They are in the order of the draw: its first rows are what fewer rows would have been.
        """
        bad = self.bad.positions
        nothing = torch.zeros(1, self.pool.dim, dtype=torch.float64)
        ranked = self.pool.rank(RankQuery("random", nothing, count + min(len(bad), 10 * count)))
        usable = ranked.lists[0][~np.isin(ranked.rows.positions[ranked.lists[0]], bad)]
        return ranked.rows.take(usable[:count])


@contextmanager
def open_pool(
    problem: Problem,
    settings: CurationSettings,
    reporter: Reporter,
    run_name: str = "",
    further_columns: Sequence[str] = (),
) -> Iterator[OpenPool]:
    """Load every row and yield the pool; frees it afterwards.

    Args:
        problem: Names the source and the feature map.
        settings: Where shards run (`cluster.num_shards` 0 means in this process, without Ray) and keep features.
        reporter: Told about loading.
        run_name: Tags Ray's metrics.
        further_columns: Columns that shards of rows in memory may be asked to read later.

    Raises:
        InputError: rows that cannot be read, or an id that occurs twice among those that can be used.
        ConfigError: resources that no node has, or more memory than there is.
        NoRoomError: others hold the cluster's CPUs, GPUs or memory until the deadline.
        ShardError: a shard that could not be brought up.
        CacheError: no room on disk, where features are to be kept there.
    """
    if settings.cluster.num_shards == 0:
        bad = BadRows()
        plan = plan_local(problem, settings)
        pool = _load_local(problem, plan, settings, reporter, bad)
        encoding = encoding_of(problem.source)
        embedded = 0 if encoding is None else encoding.num_embedded
        yield OpenPool(pool, bad, embedded, plan.copy_bytes > 0, on_disk=plan.on_disk)
        return
    bad = BadRows()
    columns = [] if problem.cost_group_columns is None else problem.cost_group_columns.columns
    with (
        _readable_by_actors(problem.source, list(dict.fromkeys([*columns, *further_columns])), bad) as source,
        _ray_pool(problem, source, settings, reporter, run_name, bad) as opened,
    ):
        yield opened


def storage_options(problem: Problem, settings: CurationSettings) -> StorageOptions:
    """Return where features are to be kept."""
    cluster = settings.cluster
    memory = parse_size("cluster.memory_per_shard", cluster.memory_per_shard)
    limit = parse_size("cluster.cache_limit", cluster.cache_limit)
    further_scores = max(0, len(problem.acquisition.score_tracks) - 2)
    state = STATE_BYTES + _SCORE_BYTES * further_scores + (0 if problem.cost_group_columns is None else _TRAIT_BYTES)
    state += 0 if settings.selection.min_similarity is None else _SIMILARITY_BYTES
    screening, encoding = cast(Screening, settings.pool.screening), encoding_of(problem.source)
    kept = StorageOptions(cast(Storage, settings.pool.storage), memory, cluster.cache_dir, limit, state, screening)
    if encoding is None:
        return kept
    return replace(kept, process_bytes=encoding.memory_bytes, least_rows=_LEAST_EMBEDDED_ROWS)


def plan_local(problem: Problem, settings: CurationSettings) -> ShardPlan:
    """Return the plan of the one shard in this process; ConfigError if it cannot fit."""
    rows, dim, storage = problem.source.num_rows, problem.dim, storage_options(problem, settings)
    return plan_in_process(rows, dim, settings.pool.dtype, torch.get_num_threads(), available_memory(), storage)


def _load_local(
    problem: Problem, plan: ShardPlan, settings: CurationSettings, reporter: Reporter, bad: BadRows
) -> LocalPool:
    source = problem.source
    rows = RowRange(
        source, 0, source.num_rows, problem.feature_map, STORAGE_DTYPES[settings.pool.dtype], problem.cost_group_columns
    )
    on_rows = reporter.rows(_verb(source), source.num_rows)
    where = ", features on disk" if plan.on_disk else ""
    with reporter.stage("load", _loading(problem, f"in this process{where}")):
        if plan.on_disk:
            cache = storage_options(problem, settings).cache(pool_fingerprint(source), plan.disk_copy_bytes)
            pool = LocalPool([load_disk_shard(rows, cache, on_rows=on_rows, bad=bad)])
        else:
            pool = LocalPool([rows.load(on_rows=on_rows, bad=bad)])
        _check_ids(pool, source)
    return pool


@contextmanager
def _ray_pool(
    problem: Problem, source: PoolSource, settings: CurationSettings, reporter: Reporter, run_name: str, bad: BadRows
) -> Iterator[OpenPool]:
    # Imported here so that selections in this process never load Ray.
    from ray_itl.cluster.connection import connect
    from ray_itl.distributed.metrics import SelectionMetrics
    from ray_itl.distributed.opening import open_ray_pool

    cluster, storage = settings.cluster, storage_options(problem, settings)
    with connect(cluster.address, notify=reporter.info):
        announce = _loading(problem, "on Ray")
        _tell_of_many_caches(source, settings, reporter)
        metrics = SelectionMetrics(run_name)
        with open_ray_pool(
            source,
            problem.feature_map,
            settings.pool.dtype,
            cluster,
            reporter.info,
            metrics.on_pass,
            storage,
            problem.cost_group_columns,
            tell=reporter.waiting,
        ) as pool:
            with reporter.stage("load", announce):
                pool.load(reporter.rows(_verb(source), source.num_rows), bad)
                _check_ids(pool, problem.source)
            yield OpenPool(
                pool,
                bad,
                pool.num_embedded,
                pool.has_room_for_copies,
                metrics.on_progress,
                on_disk=pool.on_disk,
                read_from=source,
            )


def _verb(source: PoolSource) -> str:
    return "loaded" if encoding_of(source) is None else "embedded"


def _loading(problem: Problem, where: str) -> str:
    how = "" if encoding_of(problem.source) is None else "; rows that were never seen are embedded"
    return f"loading {problem.source.num_rows:,} rows x {problem.dim} {where}{how}"


def _tell_of_many_caches(source: PoolSource, settings: CurationSettings, reporter: Reporter) -> None:
    """Warn where machines do not share what they embed."""
    from ray_itl.cluster.nodes import living_nodes

    if encoding_of(source) is not None and settings.encoder.cache is None and len(living_nodes()) > 1:
        reporter.warn(
            "each machine of the cluster keeps embeddings of its own, and rows whose shard is on another one the next "
            "time are embedded again: set encoder.cache to a folder or URI that all of them reach"
        )


@contextmanager
def _readable_by_actors(source: PoolSource, columns: Sequence[str], bad: BadRows) -> Iterator[PoolSource]:
    """Yield a source that shards can open themselves: rows in this process's memory go to a temporary file.

    Bad rows are noted here, and null there; rows that are to be embedded are written as they are.
    """
    if isinstance(source, ParquetSource):
        yield source
        return
    with temporary_folder("pool") as folder:
        if isinstance(source, TableSource) and source.encoding is not None:
            yield _write_raw_to_parquet(source, source.encoding, folder, columns, bad)
        else:
            yield write_to_parquet(source, folder, columns, bad)


def _check_ids(pool: Pool, source: PoolSource) -> None:
    found = pool.repeated_id()
    if found is not None:
        raise repeated_id_error(source, *found)
