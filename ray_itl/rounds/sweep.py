"""The same fine-tuning by several rules and seeds."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import torch

from ray_itl.errors import RayItlError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.console import Silence
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.text import plural

Member = tuple[str, int]
"""A variant's name and a seed."""


def run_sweep(
    members: Mapping[Member, FineTuneSettings],
    folder: Path,
    num_processes: int,
    reporter: Reporter,
    on_table: Callable[[pa.Table], object],
) -> pa.Table:
    """Carry out every member in a run directory of its own and gather the learning curves.

    Members that are finished are not run again. Each member computes on one thread, in one of `num_processes`
    processes, so results do not depend on how many there are. The table is written anew with every member that is done,
    its rows in the order of `members`. A member that fails ends the sweep once the others have been tried.

    Args:
        members: Settings of every variant and seed, with distinct run directories.
        folder: Where learning_curves.parquet goes.
        num_processes: Members at a time.
        reporter: Told about every member that is done, and in the end of what they warned.
        on_table: Called with the curves so far before the last member is done.

    Returns:
        The curves of all members: columns variant, seed, and those of a run's learning_curves.parquet.
    """
    found: dict[Member, pa.Table] = {}
    warned: dict[Member, list[str]] = {}
    failed: list[Exception] = []
    with _processes(num_processes) as processes:
        running = {processes.submit(_run_member, settings): member for member, settings in members.items()}
        for done, future in enumerate(as_completed(running), start=1):
            variant, seed = member = running[future]
            try:
                curves, warned[member] = future.result()
            except BrokenProcessPool as error:
                raise RayItlError(f"a process of the sweep died while {variant}, seed {seed} ran: {error}") from error
            except Exception as error:  # the others go on
                reporter.warn(f"{variant}, seed {seed}: {error}")
                failed.append(error)
                continue
            found[member] = with_member(curves, member)
            reporter.info(f"{done} of {len(members)}: {variant}, seed {seed}")
            table = _together([found[each] for each in members if each in found])
            write_parquet_table(folder / "learning_curves.parquet", table)
            if len(found) < len(members):
                on_table(table)
    if words := _summed_up({member: warned.get(member, []) for member in members}):
        reporter.warn(words)
    if failed:
        raise failed[0]
    return _together([found[each] for each in members])


def _together(curves: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(curves, promote_options="permissive")


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield processes to run members in; where the block is left by an error or a signal they end at once."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent) as processes:
        try:
            yield processes
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()  # runs can be killed anywhere
            raise


def _summed_up(warned: Mapping[Member, Sequence[str]]) -> str:
    """Return the first that members warned of, and how much more there is: they are alike, and many."""
    told = {member: words for member, words in warned.items() if words}
    if not told:
        return ""
    (variant, seed), words = next(iter(told.items()))
    num_more = sum(map(len, told.values())) - 1
    more = f" (and {num_more:,} more, in status.json of {plural(len(told), 'run')})" if num_more else ""
    return f"{variant}, seed {seed}: {words[0]}{more}"


def with_member(curves: pa.Table, member: Member) -> pa.Table:
    """Return a run's curves with the columns variant and seed in front."""
    for name, value in zip(("seed", "variant"), reversed(member), strict=True):
        curves = curves.add_column(0, name, pa.array([value] * len(curves)))
    return curves


def _end_with_parent() -> None:
    """End this process when the sweep's is killed: it would go on beside the one that resumes the sweep."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "runs in the sweep's workers"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_member(settings: FineTuneSettings) -> tuple[pa.Table, list[str]]:
    """Return a member's curves, and what it warned of: the sweep tells it, in the form of log that it has."""
    torch.set_num_threads(1)
    reporter = Reporter(renderer=Silence())
    # What single rounds did the curves tell: of thousands of them some always fall.
    return ActiveFineTuner(settings, reporter, warns_of_rounds=False).run().curves, reporter.warnings
