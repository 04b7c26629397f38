"""Opening the pool of a problem: in this process, or sharded over Ray actors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from ray_itl.core.pool import LocalPool, Pool
from ray_itl.io.loading import STORAGE_DTYPES, load_shard, repeated_id_error
from ray_itl.io.parquet import ParquetSource
from ray_itl.io.source import PoolSource
from ray_itl.io.spool import spool
from ray_itl.problem import Problem
from ray_itl.progress import Reporter
from ray_itl.settings import ClusterSettings


@contextmanager
def open_pool(problem: Problem, cluster: ClusterSettings, dtype: str, reporter: Reporter) -> Iterator[Pool]:
    """Load every row and yield the pool; frees it afterwards.

    Args:
        problem: Names the source and the feature map.
        cluster: Where shards run; `num_shards` 0 means in this process, without Ray.
        dtype: Storage dtype of features.
        reporter: Told about loading.

    Raises:
        InputError: bad rows, or a row id that occurs twice.
        ConfigError: resources that no node has.
        ShardError: a shard that could not be brought up.
    """
    if cluster.num_shards == 0:
        with reporter.stage("load", f"loading {problem.source.num_rows:,} rows x {problem.dim} in this process"):
            pool = _load_local(problem, dtype, reporter)
        yield pool
        return
    with _readable_by_actors(problem.source) as source, _ray_pool(problem, source, cluster, dtype, reporter) as pool:
        yield pool


def _load_local(problem: Problem, dtype: str, reporter: Reporter) -> LocalPool:
    source = problem.source
    on_rows = reporter.rows("loaded", source.num_rows)
    shard = load_shard(source, 0, source.num_rows, problem.feature_map, STORAGE_DTYPES[dtype], on_rows=on_rows)
    pool = LocalPool([shard])
    _check_ids(pool, source)
    return pool


@contextmanager
def _ray_pool(
    problem: Problem, source: PoolSource, cluster: ClusterSettings, dtype: str, reporter: Reporter
) -> Iterator[Pool]:
    # Imported here so that selections in this process never load Ray.
    from ray_itl.distributed.cluster import connect
    from ray_itl.distributed.ray_pool import open_ray_pool

    with connect(cluster.address):
        announce = f"loading {source.num_rows:,} rows x {problem.dim} on Ray"
        with open_ray_pool(source, problem.feature_map, dtype, cluster, reporter.say) as pool:
            with reporter.stage("load", announce):
                pool.load(reporter.rows("loaded", source.num_rows))
                _check_ids(pool, problem.source)
            yield pool


@contextmanager
def _readable_by_actors(source: PoolSource) -> Iterator[PoolSource]:
    """Yield a source that shards can open themselves: rows in this process's memory go to a temporary file."""
    if isinstance(source, ParquetSource):
        yield source
        return
    with TemporaryDirectory(prefix="ray_itl-pool-") as folder:
        yield spool(source, folder)


def _check_ids(pool: Pool, source: PoolSource) -> None:
    found = pool.repeated_id()
    if found is not None:
        raise repeated_id_error(source, *found)
