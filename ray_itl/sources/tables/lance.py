"""Lance datasets: their fragments are the files of a pool, with an interface as an open Parquet file has."""

from __future__ import annotations

import hashlib
import json
import posixpath
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.extras import load_extra
from ray_itl.sources.tables.location import Location, locate
from ray_itl.sources.tables.place import Place
from ray_itl.sources.tables.version import TableFiles, TableVersion, reading

_GROUP_ROWS = 1 << 16
_ROW_BYTES = 1024  # a guess: a fragment does not tell; it only sets the size of batches of rows without embeddings
_READAHEAD = 2
_NAME = "fragment-{:08d}"


def read_lance(folder: str, location: Location, version: int | None) -> TableFiles:
    """Return a Lance dataset's fragments at a version (None: the newest), as paths below its folder.

    Raises:
        InputError: it cannot be read.
        MissingExtraError: the library is not installed.
    """
    with reading("lance", folder, version):
        dataset = _open(location, version)
        names = [_NAME.format(fragment.fragment_id) for fragment in dataset.get_fragments()]
        return TableFiles(dataset.version, {posixpath.join(folder, name): {} for name in names})


class RowGroup(NamedTuple):
    """As pyarrow's of that name, as far as it is needed."""

    num_rows: int
    total_byte_size: int


class FragmentMetadata:
    """As pyarrow's metadata of a file, as far as it is needed; a fragment is read by groups of 65,536 rows."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.num_row_groups = -(-num_rows // _GROUP_ROWS)

    def row_group(self, index: int) -> RowGroup:
        """Return one group of rows."""
        num_rows = min(_GROUP_ROWS, self.num_rows - index * _GROUP_ROWS)
        return RowGroup(num_rows, num_rows * _ROW_BYTES)


class Fragment:
    """One fragment of a dataset, without its deleted rows, in the place of a `pyarrow.parquet.ParquetFile`."""

    def __init__(self, dataset: Any, number: int, path: str) -> None:
        """Open the fragment of a number. InputError naming its path where it is gone."""
        self._fragment = dataset.get_fragment(number)
        if self._fragment is None:
            raise InputError(f"file {path!r} is gone; restore it, or start again on the pool as it is")
        self.metadata = FragmentMetadata(self._fragment.count_rows())
        self.schema_arrow: pa.Schema = dataset.schema

    @property
    def fingerprint(self) -> str:
        """A SHA-256 that changes when rows are deleted or columns added; files of a dataset never change."""
        facts = self._fragment.metadata.to_json()
        facts = facts if isinstance(facts, dict) else json.loads(facts)
        kept = {key: facts.get(key) for key in ("files", "physical_rows", "deletion_file")}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """The bytes of its data files."""
        return sum(file.file_size_bytes or 0 for file in self._fragment.metadata.files)

    def iter_batches(
        self,
        batch_size: int,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        use_threads: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of the rows of adjacent groups (None: of all) in order."""
        del use_threads
        row_groups = range(self.metadata.num_row_groups) if row_groups is None else row_groups
        first = row_groups[0] * _GROUP_ROWS if row_groups else 0
        num_rows = sum(self.metadata.row_group(group).num_rows for group in row_groups)
        scanner = self._fragment.scanner(
            columns=None if columns is None else list(columns),
            offset=first,
            limit=num_rows,
            batch_size=batch_size,
            batch_readahead=_READAHEAD,
        )
        yield from scanner.to_batches()


def is_fragment(place: Place, path: str) -> bool:
    """Whether a pool's path is a fragment of a Lance dataset."""
    return _dataset_of(place, path) is not None


@contextmanager
def open_fragment(place: Place, filesystem: pafs.FileSystem, path: str) -> Iterator[Fragment]:
    """Open a fragment, for a block in which it is read.

    Raises:
        InputError: whatever the library raised inside the block.
        StorageError: storage failed for the moment.
    """
    table = _dataset_of(place, path)
    assert table is not None
    folder = posixpath.normpath(posixpath.join(place.root, table.path))
    with reading("lance", folder, None):
        dataset = _open_version(locate(filesystem, place.uri, folder), table.version)
        yield Fragment(dataset, int(posixpath.basename(path).rpartition("-")[2]), path)


def _dataset_of(place: Place, path: str) -> TableVersion | None:
    folder = posixpath.dirname(path) or "."
    return next((table for table in place.tables if table.kind == "lance" and table.path == folder), None)


@lru_cache(maxsize=16)
def _open_version(location: Location, version: int) -> Any:
    return _open(location, version)


def _open(location: Location, version: int | None) -> Any:
    library = load_extra("lance", f"the Lance dataset {location.address!r}", "tables")
    # Ray forks only to start another program, which is safe; the library warns of every fork.
    warnings.filterwarnings("ignore", "lance is not fork-safe", UserWarning)
    return library.dataset(location.address, version=version, storage_options=location.object_store or None)
