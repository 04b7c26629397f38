"""Files of JSON lines and CSV, read by their twins."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ray_itl.errors import InputError
from ray_itl.sources.delivery import unfinished
from ray_itl.sources.files.opened import Examined
from ray_itl.sources.files.parquet import open_parquet, read_ends
from ray_itl.sources.footer import read_claims
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.tables.place import Place
from ray_itl.sources.text.twin import twin_of


class TextKind:
    """Text files with rows in them (see `FileKind`)."""

    def examine(self, listing: PoolListing, path: str, column: str) -> Examined:
        """Parse the file, unless that was done before."""
        try:
            twin = twin_of(listing.filesystem, listing.full_path(path), path, listing.on_text)
        except InputError as error:
            waiting = unfinished(listing, path, error)
            if waiting is None:
                raise
            raise waiting from error
        footer = read_ends(pafs.LocalFileSystem(), str(twin.path))[2]
        return Examined(twin.size_bytes, twin.fingerprint, read_claims(footer, column))

    def fingerprint(self, place: Place, filesystem: pafs.FileSystem, path: str) -> str:
        """Return the SHA-256 of the text."""
        return twin_of(filesystem, posixpath.join(place.root, path), path).fingerprint

    @contextmanager
    def open(self, place: Place, filesystem: pafs.FileSystem, path: str) -> Iterator[pq.ParquetFile]:
        """Open the twin."""
        twin = twin_of(filesystem, posixpath.join(place.root, path), path)
        with open_parquet(pafs.LocalFileSystem(), str(twin.path), path) as file:
            yield file
