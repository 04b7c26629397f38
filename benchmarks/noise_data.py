"""Rows with classes, and tasks drawn from them: what picks of many noises are judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.settings import NOISE_FEATURES
from ray_itl.embedding.sentence_models import SentenceModelEncoder
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.experiments import cifar10, digits, mnist, wordnet
from ray_itl.experiments.cache import Notify, as_matrix, cache_root, data_folder, vectors, write_rows
from ray_itl.experiments.models import minilm_path

_LARGEST_PIXEL = 255.0
_MAX_TOKENS = 128
_HELD_OUT = 100
"""Rows of each class of a task that are held out, where a third of the class's are as many."""
_LEAST = 150
"""Rows that a class must have to be drawn, where enough classes have as many."""
_AS_IS, _, _CENTRED = NOISE_FEATURES


@dataclass(frozen=True)
class ClassedRows:
    """All rows of a data set."""

    rows: np.ndarray
    """N x D float32."""
    labels: np.ndarray
    """N int64."""


@dataclass(frozen=True)
class ClassTask:
    """A few classes to be told from one another, a sample of them, and a pool that has all classes."""

    pool: ClassedRows
    targets: ClassedRows
    """Classes in turn."""
    heldout: ClassedRows
    """As many of each class, of the task's alone."""
    classes: np.ndarray


def read_rows(name: str, num_rows: int, notify: Notify) -> ClassedRows:
    """Return the rows of a data set (`DATA`), at most so many of them, drawn at random and the same each time.

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    table = _drawn(DATA[name].read(cache_root(), num_rows, notify), num_rows)
    rows = as_matrix(table[DATA[name].column])
    scale = _LARGEST_PIXEL if rows.dtype == np.uint8 else 1.0
    return ClassedRows(np.ascontiguousarray(rows, dtype=np.float32) / np.float32(scale), table["label"].to_numpy())


def _drawn(table: pa.Table, num_rows: int) -> pa.Table:
    if len(table) <= num_rows:
        return table
    return table.take(pa.array(np.sort(np.random.default_rng(0).choice(len(table), num_rows, replace=False))))


def draw_task(data: ClassedRows, num_classes: int, num_targets: int, seed: int) -> ClassTask:
    """Draw classes, targets and held-out rows; the pool is all else, of all classes."""
    rng = np.random.default_rng((seed, num_classes))
    names, counts = np.unique(data.labels, return_counts=True)
    classes = np.sort(
        rng.choice(names[counts >= min(_LEAST, np.sort(counts)[-num_classes])], num_classes, replace=False)
    )
    shuffled = [rng.permutation(np.flatnonzero(data.labels == each)) for each in classes]
    held = min(_HELD_OUT, *(len(rows) // 3 for rows in shuffled))
    turns = [rows[held + turn] for turn in range(-(-num_targets // num_classes)) for rows in shuffled]
    targets, heldout = np.array(turns[:num_targets]), np.sort(np.concatenate([rows[:held] for rows in shuffled]))
    pool = np.setdiff1d(np.arange(len(data.labels)), np.concatenate([targets, heldout]))
    pool, targets, heldout = (ClassedRows(data.rows[each], data.labels[each]) for each in (pool, targets, heldout))
    return ClassTask(pool, targets, heldout, classes)


def featured(task: ClassTask, features: str) -> tuple[np.ndarray, np.ndarray]:
    """Return pool and targets as features (`NOISE_FEATURES`); they are centred by the mean of the pool."""
    both = task.pool.rows, task.targets.rows
    if features == _CENTRED:
        mean = task.pool.rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        both = tuple(rows - mean for rows in both)
    pool, targets = both if features == _AS_IS else tuple(unit(rows) for rows in both)
    return pool, targets


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of norm 1, or 0 where they are."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


@dataclass(frozen=True)
class DataSet:
    """Where rows come from, and what is asked of them."""

    read: Callable[[Path, int, Notify], pa.Table]
    """From the cache, into which it is prepared if missing; all rows, or only so many as `_drawn` draws of them."""
    column: str
    """What rows are selected by."""
    num_classes: int
    """Of a task."""
    words: str


def _parquet(
    prepare: Callable[[Path, Notify], Path], file: str, column: str
) -> Callable[[Path, int, Notify], pa.Table]:
    return lambda cache, _, notify: pq.read_table(prepare(cache, notify) / file, columns=["label", column])


def _wordnet(cache: Path, num_rows: int, notify: Notify) -> pa.Table:
    """Return the glosses that were prepared; where they were not, embed those that are drawn of them, and keep them."""
    folder, columns = data_folder(cache, "wordnet", wordnet.VERSION), ["label", "embedding"]
    if (folder / "pool.parquet").exists():
        return pq.read_table(folder / "pool.parquet", columns=columns)
    path = folder / f"drawn-{num_rows}.parquet"
    if not path.exists():
        synsets = wordnet.read_synsets(cache)
        if num_rows >= len(synsets):
            return pq.read_table(wordnet.prepare(cache, notify) / "pool.parquet", columns=columns)
        all_rows = pa.table({"text": [s.gloss for s in synsets], "label": np.array([s.label for s in synsets])})
        table = _drawn(all_rows, num_rows).combine_chunks()
        notify(f"embedding {num_rows:,} glosses of WordNet")
        encoder = SentenceModelEncoder(str(minilm_path(cache)), {"max_tokens": _MAX_TOKENS}, EmbeddingSettings())
        embeddings = encoder.embed_column(table["text"].combine_chunks()).astype(np.float16)
        write_rows(path, table.append_column("embedding", vectors(embeddings)))
    return pq.read_table(path, columns=columns)


DATA = {
    "digits": DataSet(lambda *_: pa.concat_tables(digits.tables()), "image", 3, "digits of scikit-learn, 64 pixels"),
    "wordnet": DataSet(_wordnet, "embedding", 4, "WordNet's glosses by MiniLM"),
    "mnist": DataSet(_parquet(mnist.prepare, "pool.parquet", "image"), "image", 3, "MNIST, 784 pixels"),
    "fashion-mnist": DataSet(
        _parquet(mnist.prepare_fashion, "pool.parquet", "image"), "image", 3, "Fashion-MNIST, 784 pixels"
    ),
    "cifar10": DataSet(
        _parquet(cifar10.prepare, "pool_features.parquet", "embedding"), "embedding", 3, "CIFAR-10 by EfficientNet"
    ),
}
"""By name: what is read, and how many classes a task has."""
