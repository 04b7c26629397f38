"""Tables of every kind as their own libraries write them, and what those libraries read from them."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import deltalake
import lance
import numpy as np
import pyarrow as pa
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO, _pyarrow_to_schema_without_ids
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CommitTableResponse, StaticTable, Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import update_table_metadata
from pyiceberg.transforms import IdentityTransform

DIM = 4


def rows(first: int, stop: int) -> pa.Table:
    """Return rows with ids from `first` to `stop` - 1; what is in a row follows from its id."""
    ids = np.arange(first, stop)
    matrix = np.stack([np.random.default_rng(int(each)).standard_normal(DIM) for each in ids]).astype(np.float32)
    lists = pa.array(matrix.tolist(), pa.list_(pa.float32()))
    return pa.table({"id": ids, "embedding": lists, "lang": [("en", "de", "a b/ü")[each % 3] for each in ids]})


def embeddings(ids: Sequence[int]) -> np.ndarray:
    return np.concatenate([np.array(rows(each, each + 1)["embedding"].to_pylist(), np.float32) for each in ids])


class Writer(NamedTuple):
    """How a kind of table is written and read."""

    append: Callable[..., object]
    """Takes folder and rows, and perhaps `partition`, the column by which a new table is partitioned."""
    delete: Callable[[Path, str], object]
    """Takes folder and condition."""
    ids: Callable[[Path], list[int]]
    """Reads all ids, sorted."""
    version: Callable[[Path], int]


def _delta_append(folder: Path, table: pa.Table, partition: str | None = None) -> None:
    by = None if partition is None or folder.exists() else [partition]
    deltalake.write_deltalake(str(folder), table, mode="append", partition_by=by)


DELTA = Writer(
    _delta_append,
    lambda folder, condition: deltalake.DeltaTable(str(folder)).delete(condition),
    lambda folder: sorted(deltalake.DeltaTable(str(folder)).to_pyarrow_table(columns=["id"])["id"].to_pylist()),
    lambda folder: deltalake.DeltaTable(str(folder)).version(),
)


def _lance_append(folder: Path, table: pa.Table, partition: str | None = None) -> None:
    del partition  # it has none
    matrix = np.array(table["embedding"].to_pylist(), np.float32)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), DIM)
    table = table.set_column(1, "embedding", fixed)
    lance.write_dataset(table, str(folder), mode="append" if folder.exists() else "create")


LANCE = Writer(
    _lance_append,
    lambda folder, condition: lance.dataset(str(folder)).delete(condition),
    lambda folder: sorted(lance.dataset(str(folder)).to_table(columns=["id"])["id"].to_pylist()),
    lambda folder: lance.dataset(str(folder)).version,
)


class _Folder(NoopCatalog):
    """A catalog of one table, whose newest version has the largest number, as Hadoop has it."""

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        del requirements
        metadata = update_table_metadata(table.metadata, updates)
        number = int(re.findall(r"\d+", Path(table.metadata_location).name)[0]) + 1
        place = f"{table.location()}/metadata/{number:05d}-abc.metadata.json"
        ToOutputFile.table_metadata(metadata, PyArrowFileIO().new_output(place))
        return CommitTableResponse.model_validate({"metadata": metadata, "metadata-location": place})


def newest_metadata(folder: Path) -> str:
    return max(str(path) for path in (folder / "metadata").glob("*.metadata.json"))


def iceberg(folder: Path) -> Table:
    """Open an Iceberg table to write to it."""
    table = StaticTable.from_metadata(newest_metadata(folder))
    place = f"file://{table.metadata_location}"
    return Table(("n", "t"), table.metadata, place, PyArrowFileIO(), _Folder("none"))


def _iceberg_append(folder: Path, table: pa.Table, partition: str | None = None) -> None:
    if not folder.exists():
        schema = assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(table.schema))
        spec = UNPARTITIONED_PARTITION_SPEC
        if partition is not None:
            number = schema.find_field(partition).field_id
            spec = PartitionSpec(PartitionField(number, 1000, IdentityTransform(), partition))
        metadata = new_table_metadata(schema, spec, UNSORTED_SORT_ORDER, folder.as_uri())
        (folder / "metadata").mkdir(parents=True)
        place = f"{folder.as_uri()}/metadata/00000-abc.metadata.json"
        ToOutputFile.table_metadata(metadata, PyArrowFileIO().new_output(place))
    iceberg(folder).append(table)


ICEBERG = Writer(
    _iceberg_append,
    lambda folder, condition: iceberg(folder).delete(condition),
    lambda folder: sorted(iceberg(folder).scan(selected_fields=("id",)).to_arrow()["id"].to_pylist()),
    lambda folder: getattr(iceberg(folder).current_snapshot(), "snapshot_id", 0),
)
WRITERS = {"delta": DELTA, "iceberg": ICEBERG, "lance": LANCE}


_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def deletion_vector(deleted: Sequence[int]) -> dict[str, Any]:
    """Return an inline deletion vector, as the protocol of Delta describes it."""
    header = struct.pack("<IQI", 1681511377, 1, 0)  # one bitmap, of the first 2^32 rows
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(deleted) - 1, 16)  # of one container, an array
    data = header + bitmap + struct.pack(f"<{len(deleted)}H", *deleted)
    padded = data + b"\0" * (-len(data) % 4)
    words = [word for (word,) in struct.iter_unpack(">I", padded)]
    text = "".join(_Z85[word // 85**place % 85] for word in words for place in (4, 3, 2, 1, 0))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": len(deleted)}


class HandMadeDelta:
    """A Delta table whose log a test writes itself, as another engine might have."""

    def __init__(self, folder: Path, partitions: Sequence[str] = (), **settings: Any) -> None:
        """Begin version 0; `settings` are of its protocol, and `configuration` and `columns` of its metadata."""
        self.folder = folder
        (folder / "_delta_log").mkdir(parents=True)
        numbers = {"type": "array", "elementType": "float", "containsNull": True}
        fields = [("id", "long"), ("embedding", numbers), ("lang", "string")]
        described = settings.pop("columns", {})
        columns = [
            {"name": name, "type": kind, "nullable": True, "metadata": described.get(name, {})} for name, kind in fields
        ]
        metadata = {
            "id": "00000000-0000-0000-0000-000000000001",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": columns}),
            "partitionColumns": list(partitions),
            "configuration": settings.pop("configuration", {}),
            "createdTime": 0,
        }
        protocol = {"minReaderVersion": 1, "minWriterVersion": 2, **settings}
        self.commit(0, [{"protocol": protocol}, {"metaData": metadata}])

    def commit(self, version: int, actions: Sequence[dict]) -> None:
        text = "".join(json.dumps(action) + "\n" for action in actions)
        (self.folder / "_delta_log" / f"{version:020d}.json").write_text(text)

    def add(self, path: str, partition: dict[str, str | None] | None = None, **more: Any) -> dict:
        size = os.path.getsize(self.folder / path) if (self.folder / path).exists() else 100  # noqa: PTH202
        facts = {"path": path, "partitionValues": partition or {}, "size": size, "modificationTime": 0}
        return {"add": {**facts, "dataChange": True, **more}}
