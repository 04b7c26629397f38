"""Files in and out: pools, targets, manifests and the ledger. Imports pyarrow, never Ray."""

from ray_itl.io.atomic import write_atomic, write_json, write_parquet_table
from ray_itl.io.ids import ids_from_arrow, ids_to_arrow
from ray_itl.io.inspection import build_manifest, verify_unchanged
from ray_itl.io.ledger import Ledger, LedgerEntry
from ray_itl.io.manifest import FileEntry, Manifest, Segment, ShardRange, describe_changes, plan_shards
from ray_itl.io.memory import ArraySource
from ray_itl.io.parquet import ParquetRows, ParquetSource
from ray_itl.io.schema import IdKind
from ray_itl.io.source import PoolInput, PoolSource, RowSource, open_raw_rows, open_source
from ray_itl.io.subset import SubsetRows, SubsetSource
from ray_itl.io.tables import TableRows, TableSource
from ray_itl.io.targets import Targets, read_targets

__all__ = [
    "ArraySource",
    "FileEntry",
    "IdKind",
    "Ledger",
    "LedgerEntry",
    "Manifest",
    "ParquetRows",
    "ParquetSource",
    "PoolInput",
    "PoolSource",
    "RowSource",
    "Segment",
    "ShardRange",
    "SubsetRows",
    "SubsetSource",
    "TableRows",
    "TableSource",
    "Targets",
    "build_manifest",
    "describe_changes",
    "ids_from_arrow",
    "ids_to_arrow",
    "open_raw_rows",
    "open_source",
    "plan_shards",
    "read_targets",
    "verify_unchanged",
    "write_atomic",
    "write_json",
    "write_parquet_table",
]
