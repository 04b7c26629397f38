"""Frozen features of images or texts as a further column of their table, made in parts that survive an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.embedding.sentence_models import SentenceModelEncoder
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, as_matrix, make_folder, vectors, write_rows
from ray_itl.experiments.models import minilm_path

_ROWS_PER_PART = 4000
_MAX_TOKENS = 128  # longer texts are cut: what the model was trained with, about 600 characters


def embed_in_parts(
    table: pa.Table,
    order: np.ndarray,
    embed: Callable[[np.ndarray], np.ndarray],
    output: Path,
    rows_per_part: int,
    notify: Notify,
) -> None:
    """Write `table` with a further column `embedding` to `output`, computing at most `rows_per_part` rows at a time.

    `order` is a permutation of the N rows: those that are near in it are embedded together. `embed` takes row numbers
    and returns their embeddings, n x D, finite. Each part is kept as a file in a folder beside `output`, so that the
    same call after an interruption goes on where it was; they are removed once `output` is written.

    Raises:
        InputError: embeddings of the wrong count or not finite.
    """
    parts = make_folder(output.with_suffix(".parts"))
    starts = range(0, len(order), rows_per_part)
    files = [parts / f"part-{start // rows_per_part:05d}.parquet" for start in starts]
    for start, file in zip(starts, files, strict=True):
        rows = order[start : start + rows_per_part]
        ids = table["id"].take(pa.array(rows)).combine_chunks()
        if _holds(file, ids):
            continue
        began = time.perf_counter()
        embeddings = embed(rows)
        if len(embeddings) != len(rows) or not np.isfinite(embeddings).all():
            raise InputError(f"{output}: an embedding of rows {start} to {start + len(rows)} is missing or not finite")
        write_rows(file, pa.table({"id": ids, "embedding": vectors(embeddings)}))
        notify(f"{output.name}: {start + len(rows)} of {len(order)} rows, {time.perf_counter() - began:.0f} s a part")
    embeddings = np.concatenate([as_matrix(pq.read_table(file)["embedding"]) for file in files])
    ordered = np.empty_like(embeddings)
    ordered[order] = embeddings
    write_rows(output, table.append_column("embedding", vectors(ordered)))
    for file in files:
        file.unlink()
    parts.rmdir()


def _holds(file: Path, ids: pa.Array) -> bool:
    """Tell whether a part's file is there and of these rows (else the data changed since it was written)."""
    return file.exists() and pq.read_table(file, columns=["id"])["id"].combine_chunks().equals(ids)


def write_embedded_texts(cache: Path, output: Path, read: Callable[[], pa.Table], notify: Notify) -> None:
    """Write the rows that `read` returns to `output` with a further column `embedding`, unless it is there.

    The rows without it are kept beside `output` until then, so that the same call after an interruption need not read
    them again.

    Raises:
        InputError: what `read` raises, or as `embed_texts`.
    """
    if output.exists():
        return
    rows = output.with_name("texts.parquet")
    if not rows.exists():
        write_rows(rows, read())
        notify(f"{rows}: {pq.read_metadata(rows).num_rows} rows")
    embed_texts(cache, pq.read_table(rows), output, notify)
    rows.unlink()


def embed_texts(cache: Path, table: pa.Table, output: Path, notify: Notify) -> None:
    """Write `table` (columns id, text and any more) with embeddings of the texts (384 x float16) to `output`.

    Works in parts, see `embed_in_parts`; texts of like length are embedded together, which saves padding.

    Raises:
        InputError: the model cannot be had (says what to do).
        MissingExtraError: sentence-transformers is missing (says what to do).
    """
    options = {"max_tokens": _MAX_TOKENS}
    # In float32, so that what is prepared does not depend on the processor.
    encoder = SentenceModelEncoder(str(minilm_path(cache)), options, EmbeddingSettings(precision="float32"))
    texts = table["text"].combine_chunks()
    order = np.argsort([len(text) for text in texts.to_pylist()], kind="stable")

    def embed(rows: np.ndarray) -> np.ndarray:
        return encoder.embed_column(texts.take(pa.array(rows))).astype(np.float16)

    embed_in_parts(table, order, embed, output, _ROWS_PER_PART, notify)
