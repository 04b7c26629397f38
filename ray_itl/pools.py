"""Opening the pool of a problem: in this process, or sharded over Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from ray_itl.core.greedy import Progress
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.io.loading import STORAGE_DTYPES, load_shard, repeated_id_error
from ray_itl.io.parquet import ParquetSource
from ray_itl.io.source import PoolSource
from ray_itl.io.spool import spool
from ray_itl.problem import Problem
from ray_itl.progress import Reporter
from ray_itl.settings import ClusterSettings


@dataclass(frozen=True)
class OpenPool:
    """A loaded pool, and who wants to know what is picked from it."""

    pool: Pool
    on_progress: Callable[[Progress], None] = lambda _: None
    """Counts picks and passes on Ray's metrics page, where there is one."""


@contextmanager
def open_pool(
    problem: Problem, cluster: ClusterSettings, dtype: str, reporter: Reporter, run_name: str = ""
) -> Iterator[OpenPool]:
    """Load every row and yield the pool; frees it afterwards.

    Args:
        problem: Names the source and the feature map.
        cluster: Where shards run; `num_shards` 0 means in this process, without Ray.
        dtype: Storage dtype of features.
        reporter: Told about loading.
        run_name: Tags Ray's metrics.

    Raises:
        InputError: bad rows, or a row id that occurs twice.
        ConfigError: resources that no node has.
        ShardError: a shard that could not be brought up.
    """
    if cluster.num_shards == 0:
        with reporter.stage("load", f"loading {problem.source.num_rows:,} rows x {problem.dim} in this process"):
            pool = _load_local(problem, dtype, reporter)
        yield OpenPool(pool)
        return
    with (
        _readable_by_actors(problem.source) as source,
        _ray_pool(problem, source, cluster, dtype, reporter, run_name) as opened,
    ):
        yield opened


def _load_local(problem: Problem, dtype: str, reporter: Reporter) -> LocalPool:
    source = problem.source
    on_rows = reporter.rows("loaded", source.num_rows)
    shard = load_shard(source, 0, source.num_rows, problem.feature_map, STORAGE_DTYPES[dtype], on_rows=on_rows)
    pool = LocalPool([shard])
    _check_ids(pool, source)
    return pool


@contextmanager
def _ray_pool(
    problem: Problem, source: PoolSource, cluster: ClusterSettings, dtype: str, reporter: Reporter, run_name: str
) -> Iterator[OpenPool]:
    # Imported here so that selections in this process never load Ray.
    from ray_itl.distributed.cluster import connect
    from ray_itl.distributed.metrics import SelectionMetrics
    from ray_itl.distributed.ray_pool import open_ray_pool

    with connect(cluster.address):
        announce = f"loading {source.num_rows:,} rows x {problem.dim} on Ray"
        metrics = SelectionMetrics(run_name)
        with open_ray_pool(source, problem.feature_map, dtype, cluster, reporter.say, metrics.on_pass) as pool:
            with reporter.stage("load", announce):
                pool.load(reporter.rows("loaded", source.num_rows))
                _check_ids(pool, problem.source)
            yield OpenPool(pool, metrics.on_progress)


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
