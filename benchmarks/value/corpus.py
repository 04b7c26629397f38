"""Held-out passages, and pools of others: as they are, with edited copies, and with the repeats that were there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.value.edits import edited
from benchmarks.value.settings import RESERVED
from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, as_matrix, cache_root, make_folder
from ray_itl.experiments.frozen_features import write_embedded_texts
from ray_itl.experiments.passages import bbc_passages, mail_passages
from ray_itl.training.seeds import derive_seed

SOURCES = ("bbc", "brown", "mail")
NATURAL_SOURCES = ("bbc", "mail")
"""Those whose documents repeat each other; the natural pool has no others, nor are there tests of others for it."""


@dataclass(frozen=True)
class HeldOut:
    """A held-out passage."""

    name: str
    """Source and number."""
    source: str
    text: str
    target: np.ndarray
    """Its embedding, D float32 of norm 1."""


@dataclass(frozen=True)
class Pool:
    """Rows that may be picked."""

    texts: pa.Array
    rows: np.ndarray
    """Their embeddings, N x D float32 of norm 1."""
    origins: np.ndarray
    """N numbers; rows of the same number are copies of each other."""
    copies: np.ndarray
    """N numbers: the how manieth of its origin a row is, from 0."""

    def up_to(self, copies: int) -> Pool:
        """Return the pool with so many copies of each origin."""
        which = np.flatnonzero(self.copies < copies)
        return Pool(self.texts.take(pa.array(which)), self.rows[which], self.origins[which], self.copies[which])

    def texts_of(self, rows: Sequence[int]) -> list[str]:
        """Return some rows' texts, in order."""
        return self.texts.take(pa.array(rows)).to_pylist()


class Corpus:
    """All passages, of which the tests' documents and whatever is nearly equal to a test are set aside."""

    def __init__(self, table: pa.Table, seed: int, leak: float) -> None:
        """Take passages with the columns of `passages.prepare`.

        Raises:
            InputError: a source has too few documents.
        """
        self._table, self._seed = table.combine_chunks(), seed
        self._rows = unit(as_matrix(table["embedding"]))
        self._tests = {source: self._reserve(source) for source in SOURCES}
        held_out = np.concatenate(list(self._tests.values()))
        documents = _column(table, "document")
        barred = np.isin(documents, documents[held_out])
        self.num_of_documents = int(barred.sum())
        """Rows that are out because their document is a test's."""
        barred |= (self._rows @ self._rows[held_out].T).max(axis=1) >= leak
        self.num_leaks = int(barred.sum()) - self.num_of_documents
        """Further rows that are out because they are nearly equal to a test."""
        self._free = np.flatnonzero(~barred)

    def tests(self, first: int, count: int, sources: Sequence[str] = SOURCES) -> list[HeldOut]:
        """Return tests `first` to `first + count - 1` of each source."""
        found = []
        for source in sources:
            for number, row in enumerate(self._tests[source][first : first + count], start=first):
                text = self._table["text"][int(row)].as_py()
                found.append(HeldOut(f"{source}-{number:02d}", source, text, self._rows[row]))
        return found

    def clean(self) -> Pool:
        """Return the pool in which no text is twice."""
        return self._of(self._free)

    def natural(self, texts: Sequence[str]) -> Pool:
        """Return the pool of these texts as often as they come, as far as they are passages of no test's document."""
        free = {text: row for row, text in zip(self._free, self._texts(self._free).to_pylist(), strict=True)}
        return self._of(np.array([free[text] for text in texts if text in free], dtype=np.int64))

    def edited(self, rows: int, most: int, folder: Path, notify: Notify) -> Pool:
        """Return some rows of the clean pool, each once to `most` times: as it is, and edited.

        Raises:
            InputError: the pool has fewer rows.
        """
        if rows > len(self._free):
            raise InputError(f"{rows:,} rows are asked for, but the clean pool has {len(self._free):,}: ask for fewer")
        draw = np.random.default_rng(derive_seed(self._seed, "edited"))
        chosen = np.sort(draw.choice(self._free, rows, replace=False))
        return self._copied(chosen, draw.integers(1, most, rows, endpoint=True), folder, notify)

    def around(self, tests: Sequence[HeldOut], nearest: int, copies: int, folder: Path, notify: Notify) -> Pool:
        """Return the rows of the clean pool most like each test, `copies` of each: as it is, and edited."""
        chosen = self._near(tests, nearest)
        return self._copied(chosen, np.full(len(chosen), copies), folder, notify)

    def among(self, tests: Sequence[HeldOut], nearest: int, others: int, apart: int) -> tuple[Pool, list[str]]:
        """Return the rows of the clean pool most like each test with some others, and the texts of some apart.

        Raises:
            InputError: the pool has fewer rows.
        """
        near = self._near(tests, nearest)
        draw = np.random.default_rng(derive_seed(self._seed, "others"))
        drawn = draw.permutation(np.setdiff1d(self._free, near))[: others + apart]
        if len(drawn) < others + apart:
            raise InputError(f"beside the rows most like a test the clean pool has {len(drawn):,}: ask for fewer")
        return self._of(np.sort(np.concatenate([near, drawn[:others]]))), self._texts(drawn[others:]).to_pylist()

    def _near(self, tests: Sequence[HeldOut], nearest: int) -> np.ndarray:
        free = self._rows[self._free]
        near = [np.argsort(-(free @ test.target), kind="stable")[:nearest] for test in tests]
        return self._free[np.unique(np.concatenate(near))]

    def _reserve(self, source: str) -> np.ndarray:
        """Return a row of each of 100 documents of a source."""
        rows = np.flatnonzero(_column(self._table, "source") == source)
        documents = _column(self._table, "document")[rows]
        draw = np.random.default_rng(derive_seed(self._seed, "tests", source))
        names = draw.permutation(np.unique(documents))
        if len(names) <= RESERVED:
            raise InputError(f"of {source} there are {len(names)} documents: more than {RESERVED} are needed")
        return np.array([draw.choice(rows[documents == name]) for name in names[:RESERVED]])

    def _texts(self, rows: np.ndarray) -> pa.Array:
        return self._table["text"].take(pa.array(rows)).combine_chunks()

    def _of(self, rows: np.ndarray) -> Pool:
        """Return rows of the table; those that are there twice are copies of each other."""
        order = np.argsort(rows, kind="stable")
        _, starts, counts = np.unique(rows[order], return_index=True, return_counts=True)
        copies = np.empty(len(rows), dtype=np.int64)
        copies[order] = np.arange(len(rows)) - np.repeat(starts, counts)
        return Pool(self._texts(rows), self._rows[rows], rows, copies)

    def _copied(self, rows: np.ndarray, counts: np.ndarray, folder: Path, notify: Notify) -> Pool:
        """Return rows with `counts` copies of each, the row among them."""
        origins = np.repeat(rows, counts)
        copies = np.arange(len(origins)) - np.repeat(np.cumsum(counts) - counts, counts)
        pool = Pool(self._texts(origins), self._rows[origins].copy(), origins, copies)
        new = np.flatnonzero(copies)
        if not len(new):
            return pool
        ids = self._table["id"].take(pa.array(origins[new])).to_pylist()
        texts = pool.texts.take(pa.array(new)).to_pylist()
        numbers = copies[new].tolist()
        made = [edited(text, k, self._seed, name) for text, k, name in zip(texts, numbers, ids, strict=True)]
        names = [f"{name}/{k}" for name, k in zip(ids, numbers, strict=True)]
        pool.rows[new] = unit(_embedded(pa.table({"id": names, "text": made}), folder, notify))
        all_texts = np.array(pool.texts.to_pylist(), dtype=object)
        all_texts[new] = made
        return Pool(pa.array(all_texts.tolist()), pool.rows, origins, copies)


def read_corpus(seed: int, leak: float, notify: Notify) -> Corpus:
    """Return the passages of four sources, prepared on first use.

    Raises:
        InputError: they cannot be had (says what to do).
    """
    from ray_itl.experiments.passages import prepare

    return Corpus(pq.read_table(prepare(cache_root(), notify) / "passages.parquet"), seed, leak)


def repeating_texts() -> list[str]:
    """Return all passages of BBC articles and mails, those that were filed twice among them, in a fixed order.

    Raises:
        InputError: they cannot be had (says what to do).
    """
    cache = cache_root()
    return [passage.text for passage in [*bbc_passages(cache), *mail_passages(cache)]]


def _column(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist())


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows at norm 1, float32."""
    values = rows.astype(np.float64)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def _embedded(table: pa.Table, folder: Path, notify: Notify) -> np.ndarray:
    """Return the embeddings of texts, kept in a folder of their content; an interruption costs minutes."""
    digest = hashlib.sha256("\0".join(table["text"].to_pylist()).encode()).hexdigest()[:16]
    output = make_folder(folder / "data" / f"edited-{digest}") / "embedded.parquet"
    write_embedded_texts(cache_root(), output, lambda: table, notify)
    return as_matrix(pq.read_table(output, columns=["embedding"])["embedding"])
