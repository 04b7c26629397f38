"""Embeddings kept by what was embedded, for every run, process and machine that reaches the folder.

The embeddings of one encoder are in a folder of their own, in segments: files that are written whole, under a name that
nobody else takes, and never changed. So writers need no lock, on any filesystem, and one that is killed leaves nothing
behind but a temporary file. Two that embed a row at the same time both keep it; the older segment counts from then on.

There is no index. Who wants the rows of a range compares their keys with those of all segments, 16 bytes a row: for a
million rows out of 300 million kept, 4.8 GB read from end to end, beside the 1.5 GB of their embeddings (384 numbers
each). That takes 50 MB of memory, whatever is kept. An index would be quicker to ask, and would have to be merged,
locked, and told of what is removed. Rows are read in the order in which a pool has them, which mostly is the order in
which they were embedded: a few large pieces. In another order they are read one by one.
"""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.embedding.segments import (
    LONGEST_HEADER,
    PendingSegment,
    Places,
    Segment,
    kept_bytes,
    layout_of,
    row_sums,
)
from ray_itl.errors import CacheError, ConfigError, InputError, RayItlError
from ray_itl.io.atomic import remove_leftovers, write_atomic
from ray_itl.io.cache import default_cache_root
from ray_itl.io.filesystems import open_folder
from ray_itl.text import format_size

_SUFFIX = ".safetensors"
_FORMAT = 1
_SEGMENT_BYTES = 64 << 20
_SEGMENT_S = 60.0
"""A segment is written once it is so large, or so long after its first row: what a killed process has to do again."""
_KEEP_FREE = 0.1
"""Share of a disk that is left to others where no limit is set."""
_IN_USE_S, _TOUCH_S = 3600.0, 600.0
"""Segments used so lately are not removed; those in use are marked as used that often."""
_OPENED_AT_ONCE, _OPEN_FILES, _THREADS = 64, 32, 8
_GAP_BYTES = 32 << 10
"""What lies between two rows that are wanted is read, too, if it is no more than that."""


@dataclass(frozen=True)
class StoreOptions:
    """Which folder, and how large it may be. Small, travels to every shard."""

    location: str | None = None
    """A folder or URI; None: `embeddings` in the default cache folder of the machine."""
    limit_bytes: int | None = None
    """None leaves a tenth of the disk free."""

    @property
    def place(self) -> str:
        """The folder."""
        return str(default_cache_root() / "embeddings") if self.location is None else self.location


class EmbeddingStore:
    """The embeddings of one encoder, for one thread.

    Every method may raise CacheError where the folder, or its disk, cannot be used.
    """

    def __init__(self, options: StoreOptions, identity: Mapping[str, str], dim: int) -> None:
        """Name the folder, which is made when first needed, the encoder, and D."""
        self.options, self.dim = options, dim
        words = json.dumps({"format": _FORMAT, "dim": dim, **identity}, sort_keys=True)
        self._name, self._words = sha256(words.encode()).hexdigest()[:32], words
        try:
            self._filesystem, self._root = open_folder(options.place)
        except InputError as error:
            raise CacheError(f"encoder.cache: {error}") from error
        self._folder = posixpath.join(self._root, self._name)
        self._is_local = isinstance(self._filesystem, pafs.LocalFileSystem)
        self._segments: list[Segment | PendingSegment] = []
        self._files: OrderedDict[str, pa.NativeFile] = OrderedDict()
        self._touched: tuple[float, set[str]] = (0.0, set())

    def find(self, keys: np.ndarray) -> Places:
        """Return where rows of n x 2 keys are kept. Reads the keys of all segments; ends what `find` said before."""
        self.flush()
        self._segments = []
        self._files.clear()
        places = Places(keys)
        names = self._names()
        with ThreadPoolExecutor(_THREADS) as threads:
            for first in range(0, len(names), _OPENED_AT_ONCE):
                for segment, own in filter(None, threads.map(self._open, names[first : first + _OPENED_AT_ONCE])):
                    places.add(len(self._segments), own)
                    self._segments.append(segment)
        used = [self._segments[number] for number in np.unique(places.segments) if number >= 0]
        self._touched = (0.0, {segment.name for segment in used if isinstance(segment, Segment)})
        self._mark_as_used()
        return places

    def read(self, places: Places, rows: np.ndarray) -> np.ndarray:
        """Return the embeddings, n x D float32, of rows (numbers) that are kept."""
        self._mark_as_used()
        numbers = places.number[rows]
        segments, inside = places.segments[numbers], places.rows[numbers]
        found = np.empty((len(rows), self.dim), dtype=np.float32)
        for number in np.unique(segments).tolist():
            own = segments == number
            found[own] = self._rows_of(self._segments[number], inside[own])
        return found

    def add(self, places: Places, numbers: np.ndarray, embeddings: np.ndarray) -> None:
        """Keep embeddings, n x D, of keys by their numbers in `places`, which knows of them from now on."""
        pending = self._segments[-1] if self._segments else None
        if isinstance(pending, PendingSegment) and not pending.has_room(len(numbers)):
            self.flush()
        if not isinstance(pending, PendingSegment) or not pending.has_room(len(numbers)):
            capacity = max(_SEGMENT_BYTES // kept_bytes(1, self.dim), len(numbers))
            self._segments.append(pending := PendingSegment(capacity, self.dim))
        places.segments[numbers] = len(self._segments) - 1
        places.rows[numbers] = pending.num_rows + np.arange(len(numbers))
        pending.add(places.distinct[numbers], embeddings)
        if time.monotonic() - pending.began >= _SEGMENT_S:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        pending = self._segments[-1] if self._segments else None
        if not isinstance(pending, PendingSegment):
            return
        content = pending.packed()
        self.make_room(len(content))
        name = f"{time.time_ns():016x}-{secrets.token_hex(6)}{_SUFFIX}"
        with self._guard("written"):
            self._make_folder()
            self._write(name, content)
        self._segments[-1] = Segment(name, layout_of(content, len(content), self.dim))
        self._touched[1].add(name)

    def check_limit(self, num_rows: int) -> None:
        """Raise ConfigError where the limit is smaller than what so many rows take."""
        size, limit = kept_bytes(num_rows, self.dim), self.options.limit_bytes
        if limit is not None and size > limit:
            raise ConfigError(
                f"encoder.cache_limit={format_size(limit)}, but the embeddings of {num_rows:,} rows take "
                f"{format_size(size)}: raise it, or choose fewer rows by pool.filter"
            )

    def check_room(self, size: int) -> None:
        """Raise what `make_room` would; nothing is removed."""
        with self._guard("used"):
            free = self.free_bytes()
            if free is not None and free + sum(own for _, own, _ in self._removable()) < size:
                raise self._no_room(size, free)

    def free_bytes(self) -> int | None:
        """Return how much may still be kept without removing anything; None where nothing bounds it."""
        limit = self.options.limit_bytes
        left = None if limit is None else limit - sum(size for _, size, _ in self._all_segments())
        if not self._is_local:
            return left
        there = next(folder for folder in (Path(self._folder), *Path(self._folder).parents) if folder.exists())
        disk = shutil.disk_usage(there)
        free = disk.free - (0 if limit is not None else int(_KEEP_FREE * disk.total))
        return free if left is None else min(left, free)

    def make_room(self, size: int) -> None:
        """Remove the segments of any encoder that were not used for longest, until there is room for `size` bytes.

        Raises:
            CacheError: there is none, even without all that nobody uses.
        """
        if not size:
            return
        with self._guard("used"):
            free = self.free_bytes()
            if free is None or free >= size:
                return
            for _, own, path in self._removable():
                with suppress(FileNotFoundError):
                    self._filesystem.delete_file(path)
                free += own
                if free >= size:
                    return
            raise self._no_room(size, free)

    def _no_room(self, size: int, free: int) -> CacheError:
        limit = self.options.limit_bytes
        bound = "a tenth of its disk stays free" if limit is None else f"encoder.cache_limit={format_size(limit)}"
        return CacheError(
            f"no room for {format_size(size)} of embeddings in {self.options.place} ({format_size(max(0, free))} left; "
            f"{bound}): free some space, set encoder.cache to a larger disk, or raise encoder.cache_limit"
        )

    def _names(self) -> list[str]:
        """Return the names of all segments, the oldest first."""
        with self._guard("listed"):
            if self._is_local and Path(self._folder).exists():
                remove_leftovers(Path(self._folder), _IN_USE_S)
            selector = pafs.FileSelector(self._folder, allow_not_found=True)
            found = [info.base_name for info in self._filesystem.get_file_info(selector)]
        return sorted(name for name in found if name.endswith(_SUFFIX) and not name.startswith("."))

    def _open(self, name: str) -> tuple[Segment, np.ndarray] | None:
        """Return a segment and its keys; None where it was removed meanwhile, or is damaged."""
        try:
            with self._filesystem.open_input_file(posixpath.join(self._folder, name)) as file:
                layout = layout_of(file.read_at(LONGEST_HEADER, 0), file.size(), self.dim)
                keys = np.frombuffer(file.read_at(16 * layout.num_rows, layout.keys), np.uint64).reshape(-1, 2)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):  # its rows are embedded again
            return None
        except (OSError, pa.ArrowException) as error:
            raise self._unusable("read", error) from error
        return Segment(name, layout), keys

    def _rows_of(self, segment: Segment | PendingSegment, rows: np.ndarray) -> np.ndarray:
        """Return some rows of a segment, in the order given."""
        if isinstance(segment, PendingSegment):
            return segment.rows[rows]
        with self._guard("read"):
            file = self._file(segment.name)
            order = np.argsort(rows, kind="stable")
            ordered, found = rows[order], np.empty((len(rows), self.dim), dtype=np.float32)
            breaks = np.flatnonzero(np.diff(ordered) > max(1, _GAP_BYTES // kept_bytes(1, self.dim))) + 1
            for part in np.split(np.arange(len(rows)), breaks):
                first, stop = int(ordered[part[0]]), int(ordered[part[-1]]) + 1
                found[order[part]] = self._piece(file, segment, first, stop)[ordered[part] - first]
        return found

    def _piece(self, file: pa.NativeFile, segment: Segment, first: int, stop: int) -> np.ndarray:
        layout, width = segment.layout, 4 * self.dim
        rows = np.frombuffer(file.read_at(width * (stop - first), layout.rows + width * first), np.float32)
        sums = np.frombuffer(file.read_at(8 * (stop - first), layout.sums + 8 * first), np.uint64)
        rows = rows.reshape(-1, self.dim)
        if not np.array_equal(row_sums(rows), sums):
            with suppress(OSError):
                self._filesystem.delete_file(posixpath.join(self._folder, segment.name))
            raise CacheError(
                f"{posixpath.join(self.options.place, self._name, segment.name)} was damaged, and is removed: the same "
                "command embeds its rows again"
            )
        return rows

    def _file(self, name: str) -> pa.NativeFile:
        if name not in self._files:
            self._files[name] = self._filesystem.open_input_file(posixpath.join(self._folder, name))
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(name)
        return self._files[name]

    def _make_folder(self) -> None:
        if not self._is_local:
            with suppress(OSError):  # object stores have no folders
                self._filesystem.create_dir(self._folder, recursive=True)
        else:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
        about = posixpath.join(self._folder, "encoder.json")
        if self._filesystem.get_file_info(about).type == pafs.FileType.NotFound:
            self._write("encoder.json", json.dumps(json.loads(self._words), indent=2).encode() + b"\n")

    def _write(self, name: str, content: bytes) -> None:
        path = posixpath.join(self._folder, name)
        if self._is_local:
            write_atomic(path, content)
            return
        with self._filesystem.open_output_stream(path) as file:  # which shows it once it is whole
            file.write(content)

    def _all_segments(self) -> list[tuple[float, int, str]]:
        """Return when each segment of any encoder was used last, its size and its path."""
        selector = pafs.FileSelector(self._root, allow_not_found=True, recursive=True)
        found = [info for info in self._filesystem.get_file_info(selector) if info.path.endswith(_SUFFIX)]
        return [((info.mtime_ns or 0) / 1e9, info.size or 0, info.path) for info in found]

    def _removable(self) -> list[tuple[float, int, str]]:
        """Return those of all segments that nobody uses now, first what was not used for longest."""
        before = time.time() - _IN_USE_S
        return sorted(segment for segment in self._all_segments() if segment[0] < before)

    def _mark_as_used(self) -> None:
        """Let segments in use count as such, where the filesystem can tell."""
        last, names = self._touched
        if not self._is_local or (last and time.monotonic() - last < _TOUCH_S):
            return
        for name in names:
            with suppress(OSError):  # of another user, perhaps
                os.utime(posixpath.join(self._folder, name))
        self._touched = (time.monotonic(), names)

    @contextmanager
    def _guard(self, verb: str) -> Iterator[None]:
        try:
            yield
        except CacheError:
            raise
        except (OSError, pa.ArrowException, RayItlError) as error:
            raise self._unusable(verb, error) from error

    def _unusable(self, verb: str, error: Exception) -> CacheError:
        reason = " ".join(str(error).split())
        return CacheError(
            f"the embeddings in {self.options.place} cannot be {verb} ({reason}): free some space on its disk, or set "
            "encoder.cache to a folder that can be written"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as the names of folder and encoder: what was found stays here, and all was written."""
        self.flush()
        return {**self.__dict__, "_segments": [], "_files": OrderedDict(), "_touched": (0.0, set())}
