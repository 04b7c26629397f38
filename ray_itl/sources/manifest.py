"""The manifest of a Parquet pool: which files, in which order, and how their rows split into shards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.io.image_lists import ImageList
from ray_itl.io.tables import NAMES
from ray_itl.sources.columns import PoolSchema
from ray_itl.sources.ids import IdKind, id_word
from ray_itl.sources.tables.version import TableVersion

FORMAT_VERSION = 1
_NAMED = ("id_column", "id_kind", "embedding_column", "raw_column", "encoder", "dtype", "dim")
_MAX_NAMES = 5


@dataclass(frozen=True)
class FileEntry:
    """One Parquet file, by what its footer and samples of its content say."""

    path: str
    """Relative to `Manifest.root`."""
    num_rows: int
    size_bytes: int
    fingerprint: str
    """A SHA-256 that changes when the file is replaced."""
    row_groups: tuple[int, ...]
    """Number of rows of each row group."""


class ShardRange(NamedTuple):
    """Global rows `start <= position < stop` that shard number `shard` holds; never empty."""

    shard: int
    start: int
    stop: int


class Segment(NamedTuple):
    """Rows `first_row <= row < stop_row`, counted within row group `row_group` of `file`; never empty."""

    file: FileEntry
    row_group: int
    first_row: int
    stop_row: int


@dataclass(frozen=True)
class Manifest:
    """A pool's files in the order of their paths, which fixes every row's global position.

    Rows without embeddings have an empty `embedding_column` and, unless they are embedded while they are read, an empty
    `dtype` and `dim` 0.
    """

    uri: str
    """What names the filesystem; "" for the local one."""
    root: str
    """The folder on the filesystem that `files` are relative to."""
    sources: tuple[str, ...]
    """The paths and globs on it that were asked for."""
    files: tuple[FileEntry, ...]
    id_column: str
    """Empty: a row's id is its position."""
    id_kind: IdKind
    embedding_column: str
    dtype: str
    """Numpy's name of the embeddings' float type."""
    dim: int
    filter: str = ""
    """The condition that decides which rows are the pool's ("": all); `num_rows` and positions count all the same."""
    dataset: str = ""
    """What a Dataset of these files makes of their columns, where that is not what the files say."""
    raw_column: str = ""
    """The column that is embedded while it is read, where rows have no embeddings."""
    encoder: str = ""
    """A digest of what embeds it."""
    schema: PoolSchema = field(default_factory=PoolSchema, compare=False)
    """How columns are read; follows from files and options, and is not written down."""

    tables: tuple[TableVersion, ...] = ()
    """The tables that some of the files are of, as they were read; the others are of none."""
    images: Mapping[str, ImageList] = field(default_factory=dict, compare=False)
    """The images that some of the files stand for, by the paths of these."""
    image_columns: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The file that gives columns to these images, by the same paths."""
    remarks: tuple[str, ...] = field(default=(), compare=False)
    """What people should know of how the files are read, a line each."""
    unsettled: tuple[str, ...] = field(default=(), compare=False)
    """Files that were passed over, as they had changed less than pool.settle_s before."""

    @property
    def num_rows(self) -> int:
        """Number of rows of the files."""
        return int(self.file_starts[-1])

    @cached_property
    def file_starts(self) -> np.ndarray:
        """Global position of each file's first row, then N: int64, one more than there are files."""
        return _starts([file.num_rows for file in self.files])

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """File -> position of its first row, and how many rows it has."""
        starts = self.file_starts.tolist()
        return {file.path: (start, file.num_rows) for file, start in zip(self.files, starts, strict=False)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the pool: relative paths, contents, columns and condition, but not where the root is."""
        columns = [self.id_column, id_word(self.id_kind), self.embedding_column, self.dtype, self.dim]
        columns += [self.filter] if self.filter else []
        columns += [{"dataset": self.dataset}] if self.dataset else []
        columns += [{"embedded": [self.raw_column, self.encoder]}] if self.raw_column else []
        files = [[file.path, file.num_rows, file.fingerprint] for file in self.files]
        return hashlib.sha256(json.dumps([columns, files]).encode()).hexdigest()

    def is_of_table(self, path: str) -> bool:
        """Whether a path is that of a file of a table, now or in another version."""
        return any(table.path == "." or path.startswith(f"{table.path}/") for table in self.tables)

    def plan(self, num_shards: int) -> tuple[ShardRange, ...]:
        """Cut the pool into contiguous ranges whose sizes differ by one row at most, in order.

        There are `num_shards` of them, or N if that is fewer.

        Raises:
            ConfigError: `num_shards` < 1.
        """
        return plan_shards(self.num_rows, num_shards)

    def segments(self, start: int, stop: int) -> Iterator[Segment]:
        """Yield the parts of row groups that hold positions `start <= position < stop`, in order."""
        check_range(start, stop, self.num_rows)
        index = int(np.searchsorted(self.file_starts, start, side="right")) - 1
        while start < stop:
            file, base = self.files[index], int(self.file_starts[index])
            end = min(stop, base + file.num_rows)
            yield from _file_segments(file, start - base, end - base)
            start, index = max(start, end), index + 1

    def to_json(self) -> str:
        """Return the manifest as JSON text with a format version."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "schema"}
        fields["files"] = [dataclasses.asdict(file) for file in self.files]
        fields["tables"] = [dataclasses.asdict(table) for table in self.tables]
        fields["images"] = {path: images.packed for path, images in self.images.items()}
        for name in ("dataset", "raw_column", "encoder", "tables", "images", "image_columns", "remarks", "unsettled"):
            if not fields[name]:
                del fields[name]  # so that older versions read it
        return json.dumps({"format": FORMAT_VERSION, **fields}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            RunDirectoryError: it is damaged or of another version.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("format")
            if version == FORMAT_VERSION:
                files = tuple(
                    FileEntry(**{**file, "row_groups": tuple(file["row_groups"])}) for file in fields.pop("files")
                )
                tables = tuple(TableVersion(**table) for table in fields.pop("tables", ()))
                images = {path: ImageList(packed) for path, packed in fields.pop("images", {}).items()}
                lists = {name: tuple(fields.pop(name, ())) for name in ("sources", "remarks", "unsettled")}
                return cls(files=files, tables=tables, images=images, **lists, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunDirectoryError(
                f"the pool's manifest is damaged ({error}); start again in a new directory"
            ) from error
        raise RunDirectoryError(
            f"the pool's manifest has format {version}, this version reads {FORMAT_VERSION}; use the version "
            "of ray_itl that wrote it, or start again in a new directory"
        )


def plan_shards(num_rows: int, num_shards: int) -> tuple[ShardRange, ...]:
    """Cut positions 0..num_rows-1 as `Manifest.plan` does, for a pool of any kind."""
    if num_shards < 1:
        raise ConfigError(f"num_shards is {num_shards}, but a pool needs at least 1 shard")
    count = min(num_shards, num_rows)
    cuts = [index * num_rows // count for index in range(count)] + [num_rows]
    return tuple(ShardRange(index, cuts[index], cuts[index + 1]) for index in range(count))


def check_range(start: int, stop: int, num_rows: int) -> None:
    """Check that `0 <= start <= stop <= num_rows`.

    Raises:
        IndexError: that is not so.
    """
    if not 0 <= start <= stop <= num_rows:
        raise IndexError(f"rows {start} to {stop} are not within a pool of {num_rows} rows")


def describe_changes(before: Manifest, after: Manifest) -> str:
    """Say which files changed, vanished or appeared and which columns differ; "" if nothing did."""
    old, new = ({file.path: file.fingerprint for file in each.files} for each in (before, after))
    found = [describe_file_changes(old, new)]
    for name in (*_NAMED, "filter", "dataset"):
        was, now = getattr(before, name), getattr(after, name)
        if was != now:
            found.append(f"{name} was {was!r} and is {now!r}")
    versions = {(table.kind, table.path): table.version for table in after.tables}
    for table in before.tables:
        version = versions.get((table.kind, table.path), table.version)
        if version != table.version:
            found.append(
                f"the {NAMES[table.kind]} was at version {table.version} and is at {version}: see pool.version"
            )
    return "; ".join(part for part in found if part)


def describe_file_changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say which files changed, vanished or appeared, from fingerprints by path; "" if nothing did."""
    found = [
        _name_files("changed", [path for path in before if path in after and before[path] != after[path]]),
        _name_files("vanished", [path for path in before if path not in after]),
        _name_files("appeared", [path for path in after if path not in before]),
    ]
    return "; ".join(part for part in found if part)


def _name_files(verb: str, paths: list[str]) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - _MAX_NAMES} more" if len(paths) > _MAX_NAMES else ""
    return f"{verb}: {', '.join(paths[:_MAX_NAMES])}{more}"


def _file_segments(file: FileEntry, first: int, stop: int) -> Iterator[Segment]:
    base = 0
    for index, num_rows in enumerate(file.row_groups):
        begin, end = max(first, base), min(stop, base + num_rows)
        if begin < end:
            yield Segment(file, index, begin - base, end - base)
        base += num_rows


def _starts(counts: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]).astype(np.int64)
