"""Small raw pools and models for the tests of embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.embedding.embedder import Embedder
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.embedding.source import EmbeddedSource
from ray_itl.sources.base import RowSource
from ray_itl.sources.open import open_raw_rows
from ray_itl.training.registry import ModelSpec

SIDE = 8
CNN = ModelSpec("mnist_cnn", {"side": SIDE, "classes": 4, "widths": [3, 4, 5], "features": 12})
MLP = ModelSpec("mlp", {"input_dim": SIDE * SIDE, "classes": 4, "hidden": [24, 12]})


def images(num_rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((num_rows, SIDE * SIDE), dtype=np.float32)


def raw_table(num_rows: int, first_id: int = 0, seed: int = 0) -> pa.Table:
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(images(num_rows, seed).reshape(-1)), SIDE * SIDE)
    ids = np.arange(first_id, first_id + num_rows)
    return pa.table({"id": ids, "image": pixels, "label": pa.array(ids % 4)})


def write_raw(folder: Path, counts: tuple[int, ...] = (50, 3, 80), row_group_size: int = 17) -> RowSource:
    """Write one file per count, ids counting on through them, and open the rows."""
    folder.mkdir(exist_ok=True)
    table = raw_table(sum(counts))
    first = 0
    for number, count in enumerate(counts):
        path = folder / f"part-{number}.parquet"
        pq.write_table(table.slice(first, count), path, row_group_size=row_group_size)
        first += count
    return open_raw_rows(folder, id_column="id", columns=["image", "label"])


def embedder(spec: ModelSpec = CNN, checkpoint: str | None = None, seed: int = 0, **settings) -> Embedder:
    return Embedder(spec, checkpoint, seed, EmbeddingSettings(**{"batch_size": 16, **settings}))


def embedded(base: RowSource, spec: ModelSpec = CNN, seed: int = 0, **settings) -> EmbeddedSource:
    return EmbeddedSource(base, "image", embedder(spec, seed=seed, **settings))
