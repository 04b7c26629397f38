"""The files of a pool as paths mean them: those of tables by their logs, none that may not be whole yet."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.errors import ConfigError, InputError, UnfinishedFileError
from ray_itl.io.image_files import is_image
from ray_itl.io.image_lists import ImageList, image_lists
from ray_itl.io.listing import AskedTable, Listing, OnText, PoolPaths, list_files, relative_to
from ray_itl.io.tables import NAMES, TableKind
from ray_itl.io.walk import Stamp
from ray_itl.sources.files.image_columns import files_about
from ray_itl.sources.tables.delta import read_delta
from ray_itl.sources.tables.iceberg import read_iceberg
from ray_itl.sources.tables.lance import read_lance
from ray_itl.sources.tables.location import locate
from ray_itl.sources.tables.saved import read_saved, refuse_splits
from ray_itl.sources.tables.version import TableFiles, TableVersion, refusal

_MAX_NAMES = 3


@dataclass(frozen=True)
class PoolListing(Listing):
    """Files of a pool, with those of its tables among `paths`, and one for all images of a folder in their place."""

    tables: tuple[TableVersion, ...] = ()
    """The tables, as they were read."""
    given: Mapping[str, Mapping[str, pa.Scalar]] = field(default_factory=dict)
    """Of each file of a table: values of columns that its log gives, the same in all rows of the file."""
    unsettled: tuple[str, ...] = ()
    """Files that were passed over, as they changed too lately."""
    images: Mapping[str, ImageList] = field(default_factory=dict)
    """The images of each folder, by the name that stands for them among `paths`."""
    image_columns: Mapping[str, str] = field(default_factory=dict)
    """The file that gives columns to the images of a folder, by the same names."""
    on_text: OnText | None = None
    """As of `PoolPaths`."""


def list_pool(asked: Sequence[str] | PoolPaths, filesystem: pafs.FileSystem | None = None) -> PoolListing:
    """Find the files that paths mean, as `list_files` does, with those of tables.

    Raises:
        InputError: there are none, or as of `list_files`; a table cannot be read.
        UnfinishedFileError: all that there are changed too lately.
        ConfigError: a version is asked for, and there is not one table.
        MissingExtraError: the library of a table is not installed.
    """
    paths = asked if isinstance(asked, PoolPaths) else PoolPaths(tuple(asked))
    listing = list_files(paths.paths, filesystem)
    stamps, unsettled = _settled(listing, paths)
    tables = _by_folder(listing.asked_tables)
    _check_version(paths, len(tables))
    read = {place: _read(*place, listing, paths.version) for place in tables}
    of_tables: dict[str, Mapping[str, pa.Scalar]] = {}
    for place, asked_tables in tables.items():
        of_tables |= _wanted(place[0], read[place], asked_tables)
    if not stamps and not of_tables and unsettled:
        raise UnfinishedFileError(
            f"all files that {paths.paths[0]!r} means are younger than pool.settle_s={paths.settle_s:g} "
            f"({_named(unsettled)}): run the same command again later"
        )
    if not stamps and not of_tables:
        raise InputError(f"no file with rows matched {paths.paths[0]!r}: its tables have no rows")
    root = _root(listing, of_tables)
    if root != listing.root:
        stamps = {relative_to(root, listing.full_path(path)): stamp for path, stamp in stamps.items()}
    given = {relative_to(root, path): values for path, values in sorted(of_tables.items())}
    images = image_lists({path: stamp for path, stamp in stamps.items() if is_image(path)})
    about = [relative_to(root, listing.full_path(path)) for path in listing.about_images]
    single = [path for path in stamps if not is_image(path)]
    return PoolListing(
        listing.filesystem,
        listing.uri,
        root,
        tuple(sorted({*single, *given, *images})),
        listing.sources,
        stamps,
        listing.asked_tables,
        tuple(about),
        tables=tuple(_version(kind, folder, root, read[kind, folder, by]) for kind, folder, by in tables),
        given=given,
        unsettled=tuple(relative_to(root, listing.full_path(path)) for path in unsettled),
        images=images,
        image_columns=files_about(about, images),
        on_text=paths.on_text,
    )


def _check_version(paths: PoolPaths, num_tables: int) -> None:
    if paths.version is not None and num_tables != 1:
        found = f"means {num_tables} tables" if num_tables else "is no table"
        raise ConfigError(f"pool.version={paths.version}, but {paths.paths[0]!r} {found}: leave it out")


def _settled(listing: Listing, paths: PoolPaths) -> tuple[Mapping[str, Stamp], list[str]]:
    """Part files that are old enough from those that are not; a time in the future is no age."""
    if not paths.settle_s:
        return listing.stamps, []
    now = paths.now(listing)
    young = [
        path
        for path, stamp in listing.stamps.items()
        if stamp.changed is not None and now - stamp.changed < paths.settle_s
    ]
    passed_over = set(young)
    return {path: stamp for path, stamp in listing.stamps.items() if path not in passed_over}, young


_Place = tuple[TableKind, str, str]
"""What kind of table, its folder, and the metadata file that was named, if one was."""


def _by_folder(tables: Sequence[AskedTable]) -> dict[_Place, list[AskedTable]]:
    found: dict[_Place, list[AskedTable]] = defaultdict(list)
    for table in tables:
        found[table.kind, table.folder, table.metadata].append(table)
    return dict(sorted(found.items(), key=lambda item: item[0][1:]))


def _read(kind: TableKind, folder: str, metadata: str, listing: Listing, version: int | None) -> TableFiles:
    if kind == "iceberg":
        return read_iceberg(folder, listing.filesystem, listing.uri, metadata, version)
    if kind == "saved":
        return read_saved(folder, listing.filesystem, version)
    if kind == "splits":
        refuse_splits(folder, listing.filesystem)
    if kind in ("delta", "lance"):
        read = read_delta if kind == "delta" else read_lance
        return read(folder, locate(listing.filesystem, listing.uri, folder), version)
    problem = "cannot be read, and its files alone also hold rows that were changed or deleted"
    raise refusal(kind, folder, problem, "export it to Parquet, Delta or Iceberg")


def _wanted(kind: TableKind, table: TableFiles, asked: Sequence[AskedTable]) -> Mapping[str, Mapping[str, pa.Scalar]]:
    """Return what sources mean of a table's files.

    Raises:
        InputError: one means files that are not the table's any more.
    """
    found = {}
    for each in asked:
        here = {path: values for path, values in table.files.items() if each.takes(path)}
        if not here and table.files:
            raise InputError(
                f"{each.source!r} means no file that the {NAMES[kind]} {each.folder!r} has at version "
                f"{table.version}: their rows were deleted or moved, so name the table"
            )
        found |= here
    return found


def _root(listing: Listing, files: Mapping[str, object]) -> str:
    """Return the folder that all files are under: the listing's unless a table has files elsewhere."""
    return posixpath.commonpath([listing.root, *(posixpath.dirname(path) for path in files)])


def _version(kind: TableKind, folder: str, root: str, table: TableFiles) -> TableVersion:
    return TableVersion(kind, posixpath.relpath(folder, root), table.version)


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _MAX_NAMES} more" if len(paths) > _MAX_NAMES else ""
    return f"{', '.join(paths[:_MAX_NAMES])}{more}"
