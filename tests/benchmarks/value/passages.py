"""A few hundred passages of few words, with embeddings of eight numbers, and a model of two layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.value.corpus import SOURCES, Corpus
from benchmarks.value.settings import RESERVED
from ray_itl.experiments.cache import vectors

WORDS = ("the", "cat", "sat", "on", "mat", "a", "dog", "é", "and")
DIM = 8


def table(per_document: int = 2) -> pa.Table:
    """Passages of 103 documents of each source."""
    draw = np.random.default_rng(0)
    documents = [f"{source}/{number}" for source in SOURCES for number in range(RESERVED + 3)]
    names = [f"{document}#{k}" for document in documents for k in range(per_document)]
    texts = [" ".join([*draw.choice(WORDS, 9), str(number)]) for number in range(len(names))]
    return pa.table(
        {
            "id": names,
            "text": texts,
            "source": [name.split("/")[0] for name in names],
            "document": [name.split("#")[0] for name in names],
            "embedding": vectors(draw.standard_normal((len(names), DIM)).astype(np.float16)),
        }
    )


def corpus(seed: int = 0, leak: float = 1.0) -> Corpus:
    return Corpus(table(), seed, leak)


def embed(copies: pa.Table, folder: Path, notify: object) -> np.ndarray:
    """Stand in for the encoder: the origin's embedding with a little noise, a function of the text."""
    del folder, notify
    origins = table()
    known = dict(zip(origins["id"].to_pylist(), origins["embedding"].to_pylist(), strict=True))
    found = []
    for name, text in zip(copies["id"].to_pylist(), copies["text"].to_pylist(), strict=True):
        noise = np.random.default_rng(sum(text.encode())).standard_normal(DIM)
        found.append(np.array(known[name.rsplit("/", 1)[0]]) + 0.05 * noise)
    return np.array(found)
