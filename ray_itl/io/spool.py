"""Writing an in-memory pool to Parquet, so that shards in other processes can read their own rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.io.ids import ids_to_arrow
from ray_itl.io.parquet import ParquetSource
from ray_itl.io.source import PoolSource, open_source

_ROWS_PER_GROUP = 65536


def spool(source: PoolSource, folder: str | Path, columns: Sequence[str] = ()) -> ParquetSource:
    """Write ids, embeddings and some columns of a source as one Parquet file and open it; positions stay the same.

    Args:
        source: Any source.
        folder: An existing directory that every shard can read.
        columns: Further columns, none of them called "id" or "embedding" unless it is that.
    """
    path = Path(folder) / "pool.parquet"
    writer: pq.ParquetWriter | None = None
    first = 0
    try:
        for ids, rows in source.batches(0, source.num_rows):
            values = pa.array(rows.reshape(-1))
            embedding = pa.FixedSizeListArray.from_arrays(values, source.dim)
            carried = source.take(np.arange(first, first + len(ids)), columns)
            batch = pa.table({**dict(zip(columns, carried.columns, strict=True)), "id": ids_to_arrow(ids)})
            batch = batch.append_column("embedding", embedding)
            first += len(ids)
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="none")
            writer.write_table(batch, row_group_size=_ROWS_PER_GROUP)
    finally:
        if writer is not None:
            writer.close()
    opened = open_source(path, id_column="id", embedding_column="embedding")
    assert isinstance(opened, ParquetSource)
    return opened
