"""Embedding on a cluster: Ray Data hands parts of a pool to a pool of actors, each of which keeps a model."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
import torch
from ray.exceptions import GetTimeoutError, RayError

from ray_itl.distributed.cluster import living_nodes
from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.errors import ConfigError, RayItlError, ShardError
from ray_itl.io.atomic import TEMPORARY_SUFFIX
from ray_itl.sources.bad_rows import BadRows, BadRowsError

_MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class WorkerOptions:
    """What the processes ask of the cluster."""

    num_workers: int
    cpus: float
    gpus: float
    start_deadline_s: float
    """Seconds within which the first of them must have found their places."""


def plan_workers(num_workers: int | None, cpus: float, gpus: float, num_parts: int, deadline_s: float) -> WorkerOptions:
    """Return options that the cluster's living nodes, were they idle, have room for.

    Args:
        num_workers: Processes, or None for as many as there is room for. Never more than parts.
        cpus: CPUs that each reserves, above 0.
        gpus: GPUs that each reserves.
        num_parts: Parts to embed, at least 1.
        deadline_s: See `WorkerOptions`.

    Raises:
        ConfigError: names the option that asks for too much.
    """
    nodes = living_nodes()
    needs = {"CPU": cpus, "GPU": gpus}
    places = sum(
        min(int(node.get(name, 0) / need + 1e-9) for name, need in needs.items() if need > 0) for node in nodes
    )
    if places < (num_workers or 1):
        raise ConfigError(
            f"cluster.num_workers={num_workers or 'auto'} with cluster.cpus_per_worker={cpus:g} and "
            f"cluster.gpus_per_worker={gpus:g}, but the cluster has room for {places} such workers: lower them, or add "
            "nodes"
        )
    return WorkerOptions(min(num_workers or places, num_parts), cpus, gpus, deadline_s)


def embed_on_ray(
    parts: EmbeddingParts, numbers: Sequence[int], options: WorkerOptions, bad: BadRows
) -> Generator[tuple[int, int], None, None]:
    """Write some parts on the cluster this process is connected to; yield (part, rows) of each once it is written.

    Parts come back in any order. Each worker streams the rows of its part from Parquet itself: a part is the same file
    whichever worker writes it, and one whose worker died is given to another, until three have died of it.

    Parts that are not written for bad rows do not come back: `bad` collects these rows. One of bad rows alone ends the
    run: it is not the rows.

    Raises:
        InputError, ConfigError, RunDirectoryError: what a worker raised.
        ShardError: workers that find no place in time, or keep dying.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised
    parts.tidy()
    with _context(options.start_deadline_s):
        # One block a part, so that every part is a task. Items are put into blocks here, which takes no CPU of the
        # cluster, where workers may hold all of them.
        items = [{"part": number} for number in numbers]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            PartEmbedder,
            fn_constructor_args=(pickle.dumps(parts), max(1, int(options.cpus))),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=options.num_workers, max_tasks_in_flight_per_actor=1),
            num_cpus=options.cpus,
            num_gpus=options.gpus,
        )
        try:
            batches: Iterable[Any] = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            for batch in batches:
                for row in batch.to_pylist():
                    error = pickle.loads(row["error"]) if row["error"] else None
                    if isinstance(error, BadRowsError) and len(error.rows) < parts.all[row["part"]].num_rows:
                        bad.extend(error.rows)
                    elif error is not None:
                        raise error
                    else:
                        yield row["part"], row["rows"]
        except GetTimeoutError as error:
            raise ShardError(
                f"{options.num_workers} workers found no place on the cluster within cluster.start_deadline_s="
                f"{options.start_deadline_s:g} seconds: others hold its CPUs or GPUs; lower cluster.num_workers, wait "
                "for them, or add nodes"
            ) from error
        except RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise ShardError(
                f"embedding workers failed ({type(error).__name__}: {reason}); see their logs on the cluster. The same "
                "command goes on after the finished parts"
            ) from error


class PartEmbedder:
    """What runs in a worker; Ray Data calls it with the number of a part."""

    def __init__(self, parts: bytes, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._parts: EmbeddingParts = pickle.loads(parts)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write the part; a table of one row says how many rows it has, or what went wrong."""
        part, began = batch.column("part")[0].as_py(), time.perf_counter()
        rows, error = 0, b""
        try:
            self._count_attempt(part)
            rows = self._parts.write(part)
        except RayItlError as problem:  # Ray would wrap it
            error = pickle.dumps(problem)
        seconds = time.perf_counter() - began
        return pa.table({"part": [part], "rows": [rows], "seconds": [seconds], "error": pa.array([error], pa.binary())})

    def _count_attempt(self, part: int) -> None:
        """Leave a note beside the part; Ray Data itself would try again for ever."""
        name = f".{self._parts.path(part).stem}.attempt-{{}}{TEMPORARY_SUFFIX}"
        notes = [Path(self._parts.folder) / name.format(number) for number in range(_MAX_ATTEMPTS)]
        note = next((note for note in notes if not note.exists()), None)
        if note is None:
            raise ShardError(
                f"{_MAX_ATTEMPTS} workers died while they embedded part {part}: if they ran out of memory lower "
                "embedding.batch_size or cluster.num_workers; the same command goes on after the finished parts"
            )
        note.touch()


@contextmanager
def _context(start_deadline_s: float) -> Iterator[None]:
    """Set what Ray Data reads from a context of the whole process, and put it back."""
    context = ray.data.DataContext.get_current()
    values = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "wait_for_min_actors_s": start_deadline_s,
        "execution_no_progress_timeout_s": -1,  # a part may take long
    }
    before = {name: getattr(context, name) for name in values}
    for name, value in values.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
