"""Faults inside the process of a job, put there before the job begins. Nothing of the product knows of it.

Moments are counted in operations: those on files under some places, as Python's audit events and a few wrapped
functions of `os` show them, and, where a plan says so, batches of rows read from the pool. Reads by pyarrow show in a
subclass of its local filesystem.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from tests.faults import processes

_AUDITED = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"}
_WRAPPED = ("stat", "fsync")
_PASSING = (errno.EIO, errno.ETIMEDOUT)


@dataclass(frozen=True)
class Plan:
    """What is to happen in one process, and when. Travels as JSON."""

    places: list[str]
    """Folders whose files' operations are counted."""
    counts_batches: bool = True
    """Whether batches of rows read from the pool count, too."""
    at: int = 0
    """The operation at which the action is taken; 0: never."""
    delay_s: float = 0.0
    """Seconds from there to the action."""
    action: str = ""
    """kill_self, stop_self (by SIGTERM), kill_shard, kill_raylet, kill_tree, fill or replace."""
    which: int = 0
    """Which of the shards dies."""
    roots: list[int] = field(default_factory=list)
    """Processes among whose descendants victims are looked for; none: this process."""
    paths: list[str] = field(default_factory=list)
    """fill: the file that fills the disk; replace: the new file, then the one it replaces."""
    keep_free: int = 0
    """fill: bytes left."""
    then: str = ""
    """A second action, right after the first."""
    in_place: bool = False
    """replace: write into the file instead of putting another in its place."""
    error_rate: float = 0.0
    """Share of the operations that fail; with `at`, of those from there on."""
    errors: list[int] = field(default_factory=lambda: list(_PASSING))
    seed: int = 0
    struck: str = ""
    """File that says, once it is there, that something happened."""

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class Injection:
    """A plan at work in this process."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._busy = threading.local()
        self.count = 0

    def install(self) -> None:
        """Begin; cannot be undone."""
        sys.addaudithook(self._on_audit)
        for name in _WRAPPED:
            setattr(os, name, self._wrap(getattr(os, name)))
        pafs.LocalFileSystem = self._filesystem()  # type: ignore[misc]
        if self._plan.counts_batches:
            self._count_batches()

    def pass_by(self, path: object) -> None:
        """Count an operation on a path; take the action, or fail, if it is due."""
        name = os.fsdecode(path) if isinstance(path, bytes | os.PathLike) else str(path)
        if getattr(self._busy, "now", False) or not any(name.startswith(place) for place in self._plan.places):
            return
        self._busy.now = True  # what happens here is not counted
        try:
            self._step(name)
        finally:
            self._busy.now = False

    def _step(self, name: str) -> None:
        plan = self._plan
        self.count += 1
        if plan.action and self.count == plan.at:
            if plan.delay_s:
                threading.Timer(plan.delay_s, self._act).start()
            else:
                self._act()
        if plan.error_rate and self.count >= plan.at and self._random.random() < plan.error_rate:
            self._strike()
            number = self._random.choice(plan.errors)
            raise OSError(number, os.strerror(number), name)

    def _strike(self) -> None:
        if self._plan.struck:
            Path(self._plan.struck).touch()

    def _act(self) -> None:
        self._busy.now = True
        for action in (self._plan.action, self._plan.then):
            self._take(action)

    def _take(self, action: str) -> None:
        plan, roots = self._plan, self._plan.roots or [os.getpid()]
        if action == "kill_self":
            self._strike()
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "stop_self":
            self._strike()
            os.kill(os.getpid(), signal.SIGTERM)
        elif action == "fill":
            self._strike()
            fill(Path(plan.paths[0]), plan.keep_free)
        elif action == "replace":
            self._strike()
            replace_file(Path(plan.paths[0]), Path(plan.paths[1]), plan.in_place)
        elif action and (victims := _VICTIMS[action](roots, plan.which)):
            self._strike()
            processes.kill(victims)

    def _on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _AUDITED and arguments:
            self.pass_by(arguments[0])

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapped(path: Any, *arguments: Any, **options: Any) -> Any:
            self.pass_by(Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else path)
            return function(path, *arguments, **options)

        return wrapped

    def _count_batches(self) -> None:
        from ray_itl.sources import planned_file

        stream = planned_file.stream_rows

        def counted(*arguments: Any) -> Any:
            for batch in stream(*arguments):
                self.pass_by(self._plan.places[0])
                yield batch

        planned_file.stream_rows = counted

    def _filesystem(self) -> type[pafs.LocalFileSystem]:
        pass_by = self.pass_by

        class Watched(pafs.LocalFileSystem):
            def open_input_file(self, path: Any) -> Any:
                pass_by(path)
                file = super().open_input_file(path)
                return pa.PythonFile(WatchedFile(file, path, pass_by), mode="r")

            def open_output_stream(self, path: Any, **options: Any) -> Any:
                pass_by(path)
                return WatchedFile(super().open_output_stream(path, **options), path, pass_by)

            def get_file_info(self, what: Any) -> Any:
                pass_by(what.base_dir if isinstance(what, pafs.FileSelector) else what)
                return super().get_file_info(what)

            def create_dir(self, path: Any, **options: Any) -> Any:
                pass_by(path)
                return super().create_dir(path, **options)

            def delete_dir(self, path: Any) -> Any:
                pass_by(path)
                return super().delete_dir(path)

        return Watched


class WatchedFile:
    """An open file of pyarrow whose reads and writes are told."""

    def __init__(self, file: Any, path: Any, pass_by: Callable[[Any], None]) -> None:
        self._file, self._path, self._pass_by = file, path, pass_by

    def read(self, size: int = -1) -> bytes:
        self._pass_by(self._path)
        return self._file.read() if size < 0 else self._file.read(size)

    def write(self, data: Any) -> int:
        self._pass_by(self._path)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _shard(roots: list[int], which: int) -> list[int]:
    shards = [pid for root in roots for pid in processes.descendants(root) if processes.is_shard(pid)]
    return [sorted(shards)[which % len(shards)]] if shards else []


def _raylet(roots: list[int], which: int) -> list[int]:
    del which
    return [pid for root in roots for pid in processes.descendants(root) if processes.is_raylet(pid)]


def _tree(roots: list[int], which: int) -> list[int]:
    del which
    return [pid for root in roots for pid in (root, *processes.descendants(root))]


_VICTIMS = {"kill_shard": _shard, "kill_raylet": _raylet, "kill_tree": _tree}


def fill(path: Path, keep_free: int) -> None:
    """Take what is free on a disk, but for some bytes."""
    free = os.statvfs(path.parent)
    size = free.f_bavail * free.f_bsize - keep_free
    if size > 0:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def replace_file(new: Path, old: Path, in_place: bool) -> None:
    """Put a file in the place of another, with the times of that one; or write it into that one."""
    times = old.stat()
    if in_place:
        with old.open("r+b") as file:
            file.write(new.read_bytes())
            file.truncate()
    else:
        new.replace(old)
    os.utime(old, ns=(times.st_atime_ns, times.st_mtime_ns))
