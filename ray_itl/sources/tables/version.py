"""A table as it was at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from ray_itl.errors import InputError, RayItlError
from ray_itl.io.filesystems import is_transient, transient_error
from ray_itl.io.tables import NAMES, TableKind


@dataclass(frozen=True)
class TableVersion:
    """Which table, and how it was: part of a pool's manifest."""

    kind: TableKind
    path: str
    """Its folder, relative to the manifest's root; "." for the root itself."""
    version: int
    """What its library calls the version, for Iceberg the snapshot."""


@dataclass(frozen=True)
class TableFiles:
    """The files that a table has in one version."""

    version: int
    files: Mapping[str, Mapping[str, pa.Scalar]]
    """By path on the pool's filesystem: values of columns that the file itself lacks, the same in all its rows."""


@contextmanager
def reading(kind: TableKind, folder: str, version: int | None) -> Iterator[None]:
    """Turn whatever a library raises in a block into an error that names the table.

    Raises:
        InputError: the table cannot be read, or has no such version.
        StorageError: storage failed for the moment.
    """
    try:
        yield
    except RayItlError:
        raise
    except Exception as error:  # for a damaged log, libraries raise anything
        what = f"the {NAMES[kind]} {folder!r} cannot be read"
        if is_transient(error):
            raise transient_error(what, error) from error
        remedy = "repair it, or name Parquet files" if version is None else "check pool.version"
        asked = "" if version is None else f" at version {version}"
        raise InputError(f"{what}{asked}: {' '.join(str(error).split())}; {remedy}") from error


def refusal(kind: TableKind, folder: str, problem: str, remedy: str) -> InputError:
    """Return the error for a table that would be read wrong."""
    return InputError(f"the {NAMES[kind]} {folder!r} {problem}: {remedy}")
