"""Which Parquet files an Iceberg table has, by its metadata."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from ray_itl.extras import load_extra
from ray_itl.io.tables import METADATA_SUFFIXES
from ray_itl.sources.tables.location import Location, locate
from ray_itl.sources.tables.version import TableFiles, reading, refusal

_NUMBER = re.compile(r"v?(\d+)")
_SCHEME = re.compile(r"(\w+):(//)?")
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


def read_iceberg(folder: str, filesystem: pafs.FileSystem, uri: str, metadata: str, version: int | None) -> TableFiles:
    """Return an Iceberg table's files at a snapshot (None: the current one).

    Args:
        folder: The table's, on the filesystem.
        filesystem: Where it is.
        uri: That which the filesystem was opened from, or "".
        metadata: The metadata file on it that describes the table; "" for the newest, by the number in its name.
        version: The snapshot's id.

    Raises:
        InputError: the table cannot be read, or its files alone do not say what its rows are.
        MissingExtraError: the library is not installed.
    """
    library = load_extra("pyiceberg.table", f"the Iceberg table {folder!r}", "tables")
    with reading("iceberg", folder, version):
        location = locate(filesystem, uri, metadata or _newest(filesystem, folder))
        table = library.StaticTable.from_metadata(location.address, location.file_io)
        _check_names(table, folder)
        snapshot = table.current_snapshot() if version is None else table.snapshot_by_id(version)
        if snapshot is None and version is not None:
            raise refusal("iceberg", folder, f"has no snapshot {version}", "check pool.version")
        if snapshot is None:
            return TableFiles(0, {})
        tasks = list(table.scan(snapshot_id=snapshot.snapshot_id).plan_files())
        return TableFiles(
            snapshot.snapshot_id, {_path(task, location, folder): _partition(task, table) for task in tasks}
        )


def _newest(filesystem: pafs.FileSystem, folder: str) -> str:
    """Return the metadata file of the largest number."""
    infos = filesystem.get_file_info(pafs.FileSelector(f"{folder}/metadata"))
    numbered: Mapping[int, list[str]] = defaultdict(list)
    for info in infos:
        found = _NUMBER.match(info.base_name)
        if found is not None and info.base_name.endswith(METADATA_SUFFIXES):
            numbered[int(found[1])].append(info.path)
    if not numbered:
        raise refusal("iceberg", folder, "has no metadata file with a number", "name the right one in its path")
    candidates = sorted(numbered[max(numbered)])
    if len(candidates) > 1:
        problem = f"has several newest metadata files ({', '.join(candidates)}), of which only its catalog knows one"
        raise refusal("iceberg", folder, problem, "name the right one in the path")
    return candidates[0]


def _check_names(table: Any, folder: str) -> None:
    """Refuse a table in whose files a name may mean another column than it does now."""
    names: Mapping[int, set[str]] = defaultdict(set)
    numbers: Mapping[str, set[int]] = defaultdict(set)
    for schema in table.schemas().values():
        for number in schema.field_ids:
            name = schema.find_column_name(number)
            names[number].add(name)
            numbers[name].add(number)
    changed = sorted({name for each in names.values() if len(each) > 1 for name in each})
    changed += sorted(name for name, each in numbers.items() if len(each) > 1)
    if changed:
        problem = f"had columns renamed or made anew ({', '.join(changed)}), which its files call by old names"
        raise refusal("iceberg", folder, problem, "write it anew (rewrite_data_files does not), or export it")


def _path(task: Any, location: Location, folder: str) -> str:
    """Return the path of a task's file on the pool's filesystem."""
    file = task.file
    if task.delete_files:
        problem = "has delete files, which mark deleted rows"
        raise refusal("iceberg", folder, problem, "compact it (rewrite_data_files), then try again")
    if file.file_format.value.upper() != "PARQUET":
        raise refusal("iceberg", folder, f"has files in {file.file_format.value}", "export it to Parquet")
    scheme = _SCHEME.match(file.file_path)
    path = file.file_path if scheme is None else file.file_path[scheme.end() :]
    own, _, _ = location.address.rpartition("://")
    theirs = "" if scheme is None or scheme[1] == "file" else _SAME.get(scheme[1], scheme[1])
    if theirs != _SAME.get(own, own):
        raise refusal("iceberg", folder, f"has files elsewhere ({file.file_path})", "name it there")
    return path.partition("/")[2] if theirs in ("hdfs", "viewfs") else path


def _partition(task: Any, table: Any) -> dict[str, pa.Scalar]:
    """Return the values of columns by which the table is partitioned as they are: a file may lack them."""
    schema = table.schema()
    types = schema.as_arrow()
    fields = table.specs()[task.file.spec_id].fields
    values = {}
    for place, field in enumerate(fields):
        if str(field.transform) == "identity":
            name = schema.find_column_name(field.source_id)
            if name is not None and name in types.names:
                values[name] = pa.scalar(task.file.partition[place], types.field(name).type)
    return values
