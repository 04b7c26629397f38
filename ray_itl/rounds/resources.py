"""What is kept between rounds: the pool, and the trainer that the options ask for.

The pool is loaded once for each embedding, in this process or on the same Ray shards throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ray_itl.core.features import Identity
from ray_itl.core.pool import Pool
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.trainer_settings import TrainerSettings
from ray_itl.shards.source_pool import SourcePool
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.training.trainer import LocalTrainer, Trainer


class ReloadablePool(Pool, Protocol):
    """A pool that can load the rows of another source; see `SourcePool` and `RayPool`."""

    def reload(
        self, source: PoolSource, on_rows: Callable[[int], None] | None = None, bad: BadRows | None = None
    ) -> None:
        """Load the rows of another source in place of the present ones."""
        ...


class PoolCache:
    """Holds at most one loaded pool; a context manager, which frees it.

    Ray shards are started for the first embedding and load their own rows again, from the raw column and with the new
    weights, for every further one.
    """

    def __init__(
        self,
        cluster: ClusterSettings,
        dtype: str,
        reporter: Reporter,
        beside: tuple[int, dict[str, float]] | None = None,
    ) -> None:
        """Say where pools live; nothing is loaded yet. With shards, Ray must be connected.

        Args:
            cluster: Where shards run.
            dtype: Storage dtype.
            reporter: Told about loading.
            beside: Processes that need room beside the shards, how many and the needs of each; None: none.
        """
        self._beside = beside
        self._cluster = cluster
        self._dtype = dtype
        self._reporter = reporter
        self._stack = ExitStack()
        self._pool: ReloadablePool | None = None
        self._key: str | None = None

    def __enter__(self) -> PoolCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool, self._key = None, None
        self._stack.close()

    def load(self, source: PoolSource, key: str, barred: np.ndarray) -> Pool:
        """Return the pool of a source, loading it unless the pool held has the same key.

        Raises:
            BadRowsError: bad rows, other than those barred.
            InputError: a row id that occurs twice.
            ShardError: a shard failed and could not be rebuilt.
        """
        told, bad = self._reporter.rows("embedded", source.num_rows), BadRows()
        if self._pool is None:
            self._pool = self._open(source, told, bad)
        elif key != self._key:
            self._key = None  # a failure half-way must not pass for the old pool
            self._pool.reload(source, told, bad)
        if len(bad.without(barred)):
            raise bad.without(barred).refusal(source.locate, "set data.on_bad_row=skip where it is the rows")
        self._key = key
        return self._pool

    def _open(self, source: PoolSource, told: Callable[[int], None], bad: BadRows) -> ReloadablePool:
        if self._cluster.num_shards == 0:
            return SourcePool(source, Identity(), self._dtype, on_rows=told, bad=bad)
        # Imported here so that runs in this process never load Ray.
        from ray_itl.distributed.opening import open_ray_pool

        pool = self._stack.enter_context(
            open_ray_pool(
                source,
                Identity(),
                self._dtype,
                self._cluster,
                self._reporter.info,
                tell=self._reporter.waiting,
                beside=self._beside,
            )
        )
        pool.load(told, bad)
        return pool


def workers_of(settings: TrainerSettings) -> tuple[int, dict[str, float]] | None:
    """Return how many workers train on Ray and the needs of each by Ray's names; None where this process trains."""
    if not settings.is_on_ray:
        return None
    return settings.num_workers, {"CPU": settings.cpus_per_worker, "GPU": float(settings.use_gpu)}


def check_room(cluster: ClusterSettings, trainer: TrainerSettings) -> None:
    """Check, before any work, that the connected cluster has room for the run's shards and workers together.

    Raises:
        ConfigError: it has not, and no node can join it (names the options).
    """
    # Imported here so that runs in this process never load Ray.
    from ray_itl.cluster.head import can_grow
    from ray_itl.cluster.nodes import living_nodes
    from ray_itl.distributed.placement import ShardPlan, check_fits, check_fits_beside

    nodes, workers = living_nodes(), workers_of(trainer)
    count = 1 if cluster.num_shards == "auto" else cluster.num_shards
    least = 0.0 if workers else ShardPlan(1).num_cpus
    share = least if cluster.cpus_per_shard is None else cluster.cpus_per_shard
    try:
        if count:
            check_fits(ShardPlan(count, num_cpus=share, num_gpus=cluster.gpus_per_shard), 1, 1, nodes)
        if workers:
            check_fits_beside((count, {"CPU": share, "GPU": cluster.gpus_per_shard}), workers, nodes)
    except ConfigError:
        if not can_grow():
            raise


def make_trainer(settings: TrainerSettings, run: Path, tell: Callable[[str | None], None] = lambda _: None) -> Trainer:
    """Return a trainer, to be closed by the caller; those on Ray need a connection.

    Args:
        settings: Its options.
        run: The run directory.
        tell: Told, in a line, that workers wait for room; None: no longer.

    Raises:
        ConfigError: an option out of range, or no GPU for training in this process.
    """
    if settings.kind == "local":
        if settings.use_gpu and not torch.cuda.is_available():
            raise ConfigError(
                "trainer.use_gpu=true with trainer.kind=local, but this process has no GPU that torch can use: set "
                "trainer.use_gpu=false, or train on a cluster with GPUs (trainer.kind=ray)"
            )
        return LocalTrainer("cuda" if settings.use_gpu else "cpu")
    # Imported here so that training in this process never loads Ray.
    from ray_itl.training.ray_trainer import RayTrainer

    return RayTrainer(
        settings.num_workers,
        str(run / "ray_train"),
        use_gpu=settings.use_gpu,
        cpus_per_worker=settings.cpus_per_worker,
        long_lived=settings.kind == "ray_long_lived",
        max_failures=settings.max_failures,
        restart_deadline_s=settings.restart_deadline_s,
        tell=tell,
    )
