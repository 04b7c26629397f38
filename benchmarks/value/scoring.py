"""Curves of all tests and rules, a file for each, so that what is interrupted goes on; tests side by side on cores."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.machine import threads
from benchmarks.value.settings import TuningOptions
from benchmarks.value.tuning import Curve, Tuner
from ray_itl.errors import RunDirectoryError
from ray_itl.experiments.cache import Notify, make_folder
from ray_itl.io.atomic import write_json
from ray_itl.text import duration


@dataclass(frozen=True)
class Work:
    """A test, and what was picked for it."""

    folder: Path
    """Where its curves are kept, a file for each rule."""
    text: str
    picks: Mapping[str, Sequence[str]]
    """Rule -> texts, in order."""

    def curves(self) -> dict[str, Curve]:
        """Return the curves there are."""
        found = {rule: self._file(rule) for rule in self.picks}
        return {rule: _read(file) for rule, file in found.items() if file.exists()}

    def keep(self, rule: str, curve: Curve) -> None:
        """Write a curve, whole or not at all."""
        make_folder(self.folder)
        write_json(self._file(rule), {"bits_per_byte": curve.bits, "seconds": curve.seconds})

    def left(self) -> Work | None:
        """Return the work without what is done; None if nothing is left."""
        done = self.curves()
        left = {rule: texts for rule, texts in self.picks.items() if rule not in done}
        return Work(self.folder, self.text, left) if left else None

    def _file(self, rule: str) -> Path:
        return self.folder / f"{rule}.json"


def score_all(
    works: Sequence[Work], options: TuningOptions, folder: str, seed: int, notify: Notify
) -> list[dict[str, Curve]]:
    """Return the curves of each work, having computed those that were missing.

    They do not depend on the number of processes: each computes on one thread. A run that is killed loses what each
    process was at, a rule of a test at most.

    Args:
        works: What is to be done.
        options: How.
        folder: Of the model.
        seed: Of the adapters.
        notify: Takes a line for each test that is done.

    Raises:
        RunDirectoryError: a file cannot be written, or a process died; the same call goes on.
    """
    left = [work for each in works if (work := each.left())]
    began, had = time.monotonic(), len(works) - len(left)
    for done, work in enumerate(_computed(left, options, folder, seed), start=1):
        passed = time.monotonic() - began
        to_go = duration(passed / done * (len(left) - done))
        notify(f"{work.folder.parent.name}, {work.folder.name}: {had + done} of {len(works)} tests, about {to_go} left")
    return [work.curves() for work in works]


def _computed(left: Sequence[Work], options: TuningOptions, folder: str, seed: int) -> Iterator[Work]:
    if not left:
        return
    if options.processes == 0:
        with threads(1):
            tuner = Tuner(options, folder, seed)
            for work in left:
                _compute(tuner, work)
                yield work
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, _begin, (options, folder, seed)) as processes:
        tasks = {processes.submit(_compute_here, work): work for work in left}
        try:
            for task in as_completed(tasks):
                task.result()
                yield tasks[task]
        except BrokenProcessPool as error:
            raise RunDirectoryError(
                "a process that fine-tuned a model ended by itself, perhaps for want of memory: the same command goes "
                f"on; with {options.group}.processes=1 it takes half the memory"
            ) from error
        except BaseException:  # what processes are at takes minutes: an interrupt does not wait for it
            processes.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
                child.join()
            raise


_tuner: Tuner | None = None


def _begin(options: TuningOptions, folder: str, seed: int) -> None:
    """Make this process's model."""
    global _tuner
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _tuner = Tuner(options, folder, seed)


def _end_with_parent() -> None:
    """End this process once the one that started it has, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _compute_here(work: Work) -> None:
    assert _tuner is not None
    _compute(_tuner, work)


def _compute(tuner: Tuner, work: Work) -> None:
    for rule, curve in tuner.curves(work.text, work.picks):
        work.keep(rule, curve)


def _read(file: Path) -> Curve:
    values = json.loads(file.read_text())
    return Curve({int(steps): bits for steps, bits in values["bits_per_byte"].items()}, values["seconds"])
