"""Embedding on a cluster: Ray Data hands parts of a pool to a pool of actors, each of which keeps a model."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow as pa
import ray.data
import torch
from ray.exceptions import GetTimeoutError, RayError

from ray_itl.cluster.head import can_grow
from ray_itl.cluster.nodes import free_nodes, living_nodes
from ray_itl.cluster.room import Nodes, RoomAsked, places_on
from ray_itl.cluster.waiting import Tell, await_room, watched_head
from ray_itl.embedding.encoder import OnRows, unheard
from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.errors import ConfigError, NoRoomError, RayItlError, ShardError
from ray_itl.io.atomic import TEMPORARY_SUFFIX
from ray_itl.observability.status import every
from ray_itl.sources.bad_rows import BadRows, BadRowsError

_MAX_ATTEMPTS = 3
_ASKED_EVERY_S = 1.0


@dataclass(frozen=True)
class WorkerOptions:
    """What the processes ask of the cluster."""

    num_workers: int
    cpus: float
    gpus: float
    start_deadline_s: float
    """Seconds within which the first of them must have found their places."""

    @property
    def needs(self) -> dict[str, float]:
        """What each asks of a node, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus}

    @property
    def asked(self) -> RoomAsked:
        """The room that they need together."""
        option = "cluster.start_deadline_s"
        return RoomAsked("worker", self.num_workers, self.needs, option, self.start_deadline_s)


_SETTLE_S = 3.0
"""For so long, what has just ended may still be counted as held."""
_REMEDY = "lower cluster.num_workers, cluster.cpus_per_worker or cluster.gpus_per_worker"


def plan_workers(num_workers: int | None, cpus: float, gpus: float, num_parts: int, deadline_s: float) -> WorkerOptions:
    """Return options that the connected cluster has room for, or will have once others give theirs back.

    Args:
        num_workers: Processes, or None for as many as there is room for now, but at least one. Never more than parts.
        cpus: CPUs that each reserves, above 0.
        gpus: GPUs that each reserves.
        num_parts: Parts to embed, at least 1.
        deadline_s: See `WorkerOptions`.

    Raises:
        ConfigError: names the option that asks for too much.
    """
    nodes, needs, deadline = living_nodes(), {"CPU": cpus, "GPU": gpus}, time.monotonic() + _SETTLE_S
    try:
        check_workers_fit(num_workers, cpus, gpus, nodes)
    except ConfigError:
        if not can_grow():
            raise
    if num_workers is None:
        usual = min(num_parts, places_on(nodes, needs))
        while (num_workers := places_on(free_nodes(), needs)) < usual and time.monotonic() < deadline:
            time.sleep(_SETTLE_S / 10)
    return WorkerOptions(max(1, min(num_workers, num_parts)), cpus, gpus, deadline_s)


def check_workers_fit(num_workers: int | None, cpus: float, gpus: float, nodes: Nodes) -> None:
    """Check that nodes, were they idle, have room for workers (None: for one). Pure.

    Raises:
        ConfigError: names the option that asks for too much.
    """
    room = places_on(nodes, {"CPU": cpus, "GPU": gpus})
    if room < (num_workers or 1):
        raise ConfigError(
            f"cluster.num_workers={num_workers or 'auto'} with cluster.cpus_per_worker={cpus:g} and "
            f"cluster.gpus_per_worker={gpus:g}, but the cluster has room for {room} such workers: lower them, or add "
            "nodes"
        )


def embed_on_ray(
    parts: EmbeddingParts,
    numbers: Sequence[int],
    options: WorkerOptions,
    tell: Tell = lambda _: None,
    bad: BadRows | None = None,
    on_rows: Callable[[int], object] = unheard,
) -> Generator[tuple[int, int], None, None]:
    """Write some parts on the cluster this process is connected to; yield (part, rows) of each once it is written.

    Parts come back in any order. Each worker streams the rows of its part from Parquet itself: a part is the same file
    whichever worker writes it, and one whose worker died is given to another, until three have died of it.

    Args:
        parts: All parts.
        numbers: Those to write.
        options: The workers.
        tell: Told, in a line, that workers wait for room; None: no longer.
        bad: Collects the bad rows of parts that are not written for them. One of bad rows alone ends the run all the
            same: it is not the rows. None: the first such part ends it.
        on_rows: Told every second how many rows are embedded in all, those of unfinished parts too.

    Raises:
        InputError, ConfigError, RunDirectoryError: what a worker raised.
        NoRoomError: others hold what the workers need until the deadline.
        ShardError: workers that keep dying, or a head that is gone.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised
    parts.tidy()
    await_room(options.asked, tell, _REMEDY)
    counter: Any = ray.remote(num_cpus=0)(RowCounter).remote()
    with (
        _context(options.start_deadline_s),
        watched_head(),
        every(lambda: _ask(counter, on_rows), _ASKED_EVERY_S, "rows"),
    ):
        # One block a part, so that every part is a task. Items are put into blocks here, which takes no CPU of the
        # cluster, where workers may hold all of them.
        items = [{"part": number} for number in numbers]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            PartEmbedder,
            fn_constructor_args=(pickle.dumps(parts), max(1, int(options.cpus)), counter),
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
                    if _of_some_rows(error, parts.all[row["part"]].num_rows) and bad is not None:
                        bad.extend(error.rows)
                    elif error is not None:
                        raise error
                    else:
                        yield row["part"], row["rows"]
        except GetTimeoutError as error:
            raise NoRoomError(
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


class RowCounter:
    """An actor that knows how many rows of each part are embedded."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}

    def put(self, part: int, rows: int) -> None:
        """Note how many rows of a part are embedded, of which another try may have noted more."""
        self._rows[part] = rows

    def total(self) -> int:
        """Return how many rows are embedded."""
        return sum(self._rows.values())


def _ask(counter: Any, on_rows: Callable[[int], object]) -> None:
    with suppress(RayError):  # a courtesy
        on_rows(ray.get(counter.total.remote(), timeout=_ASKED_EVERY_S))


def _of_some_rows(error: object, num_rows: int) -> TypeGuard[BadRowsError]:
    """Whether some rows of a part are bad, but not all."""
    return isinstance(error, BadRowsError) and len(error.rows) < num_rows


class PartEmbedder:
    """What runs in a worker; Ray Data calls it with the number of a part."""

    def __init__(self, parts: bytes, num_threads: int, counter: Any) -> None:
        torch.set_num_threads(num_threads)
        self._parts: EmbeddingParts = pickle.loads(parts)
        self._counter = counter

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write the part; a table of one row says how many rows it has, or what went wrong."""
        part, began = batch.column("part")[0].as_py(), time.perf_counter()
        rows, error = 0, b""
        try:
            self._count_attempt(part)
            rows = self._parts.write(part, self._told_of(part))
        except RayItlError as problem:  # Ray would wrap it
            error = pickle.dumps(problem)
        seconds = time.perf_counter() - began
        return pa.table({"part": [part], "rows": [rows], "seconds": [seconds], "error": pa.array([error], pa.binary())})

    def _told_of(self, part: int) -> OnRows:
        """Return what tells the counter of rows of a part, now and then."""
        done, told = 0, 0.0

        def on_rows(rows: int) -> None:
            nonlocal done, told
            done, now = done + rows, time.monotonic()
            if now - told >= _ASKED_EVERY_S or done >= self._parts.all[part].num_rows:
                told = now
                self._counter.put.remote(part, done)

        return on_rows

    def _count_attempt(self, part: int) -> None:
        """Leave a note beside the part; Ray Data itself would try again for ever."""
        name = f".{self._parts.path(part).stem}.attempt-{{}}{TEMPORARY_SUFFIX}"
        notes = [Path(self._parts.folder) / name.format(number) for number in range(_MAX_ATTEMPTS)]
        note = next((note for note in notes if not note.exists()), None)
        if note is None:
            raise ShardError(
                f"{_MAX_ATTEMPTS} workers died while they embedded part {part}: if they ran out of memory lower "
                "embedding.batch_size (of texts embedding.batch_tokens) or cluster.num_workers; the same command goes "
                "on after the finished parts"
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
