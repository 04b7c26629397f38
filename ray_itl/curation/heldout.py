"""What a model is to be tested on, and which rows of the pool are nearly equal to it: contamination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from ray_itl.core.near_rows import NearQuery, NearRows, near_among
from ray_itl.core.rules import unit_rows
from ray_itl.curation.text_overlap import TextIndex
from ray_itl.errors import InputError
from ray_itl.runs.fingerprint import tensor_digest
from ray_itl.sources.base import PoolSource
from ray_itl.sources.costs_and_groups import positioned_batches
from ray_itl.sources.ids import ids_to_arrow
from ray_itl.sources.lookup import ids_at
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.settings import HeldoutSettings
from ray_itl.sources.types import is_text, plain

HELDOUT_FILE = "heldout.parquet"
REASONS = ("same text", "embedding", "n-gram overlap")
"""Why a row counts as nearly equal, the most telling first: it is listed by the first that holds."""


@dataclass(frozen=True)
class Contamination:
    """Rows of the pool that are nearly equal to a held-out row, each once, ascending."""

    positions: np.ndarray
    """k int64."""
    nearest: np.ndarray
    """Numbers of held-out rows, k int64."""
    similarities: np.ndarray
    """Cosines or, of texts, shares of n-grams: k float64."""
    reasons: np.ndarray
    """Indices into `REASONS`, k int64."""

    @classmethod
    def none(cls) -> Contamination:
        """Return that of a pool without such rows."""
        empty = np.empty(0, dtype=np.int64)
        return cls(empty, empty, np.empty(0), empty)

    def __len__(self) -> int:
        return len(self.positions)

    def joined(self, other: Contamination) -> Contamination:
        """Return the rows of both, one that both have by its more telling reason."""
        parts = [
            np.concatenate([getattr(each, name) for each in (self, other)])
            for name in ("positions", "nearest", "similarities", "reasons")
        ]
        order = np.lexsort((parts[3], parts[0]))
        first = np.unique(parts[0][order], return_index=True)[1]
        return Contamination(*(part[order][first] for part in parts))

    def without(self, positions: np.ndarray | None) -> Contamination:
        """Return those rows that stand at none of some positions."""
        keep = np.ones(len(self), dtype=bool) if positions is None else ~np.isin(self.positions, positions)
        return Contamination(self.positions[keep], self.nearest[keep], self.similarities[keep], self.reasons[keep])


@dataclass(frozen=True)
class HeldOut:
    """K held-out rows."""

    names: list[str]
    rows: Tensor | None
    """In feature space, K x D float64; None where only texts are compared."""
    texts: pa.Array | None
    """K texts, if texts are compared."""
    options: HeldoutSettings = field(default_factory=HeldoutSettings)
    content: str | None = None
    """Of what was embedded to get the rows, and by which encoder, a digest: embedding anew may change last bits."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digest(self) -> str:
        """What decides which rows of a pool are near: the rows, and the options that compare them."""
        options = self.options
        shown = (options.max_similarity, options.column_in_pool, options.ngram, options.max_overlap)
        texts = None if self.texts is None else self.texts.to_pylist()
        rows = self.content or ("" if self.rows is None else tensor_digest(self.rows))
        return sha256(repr((rows, texts, shown)).encode()).hexdigest()

    @property
    def query(self) -> NearQuery | None:
        """What shards are asked for; None where only texts are compared."""
        return None if self.rows is None else NearQuery(unit_rows(self.rows), self.options.max_similarity)

    @cached_property
    def index(self) -> TextIndex | None:
        """What texts of the pool are looked up in; None where no texts are compared."""
        if self.texts is None:
            return None
        return TextIndex(self.texts, self.options.ngram, self.options.max_overlap)


def read_heldout(rows: Any, options: HeldoutSettings, features: Tensor | None, content: str | None = None) -> HeldOut:
    """Return held-out rows, given their features and, if these were embedded, a digest of what; reads names and texts.

    Raises:
        InputError: a column that they do not have, or that holds no texts (names the option).
    """
    if isinstance(rows, np.ndarray | Tensor):
        return HeldOut([str(row) for row in range(len(rows))], features, None, options, content)
    columns = {} if options.text_column is None else {options.text_column: "heldout.text_column"}
    try:
        source = open_raw_rows(rows, id_column=options.id_column, columns=columns, id_option="heldout.id_column")
        batches = list(source.row_batches(0, source.num_rows, list(columns)))
        texts = [_texts(batch.column(0), options.text_column, "heldout.text_column") for _, batch in batches if columns]
    except InputError as error:
        raise type(error)(f"held-out rows: {error}") from error
    names = [str(name) for ids, _ in batches for name in ids.tolist()]
    return HeldOut(names, features, pa.concat_arrays(texts) if columns else None, options, content)


def _texts(column: pa.Array, name: str | None, option: str) -> pa.Array:
    texts = plain(column)
    if not is_text(texts.type):
        raise InputError(f"{option}={name} is of type {column.type}: name a column of texts")
    return texts.cast(pa.large_string())


def near_by_features(found: NearRows) -> Contamination:
    """Return rows that are near by their features."""
    reasons = np.full(len(found.positions), REASONS.index("embedding"))
    return Contamination(found.positions, found.nearest, found.similarities, reasons)


def near_by_text(
    source: PoolSource, heldout: HeldOut, on_rows: Callable[[int], object] = lambda _: None
) -> Contamination:
    """Return the rows of a pool whose texts are like a held-out one. Reads their column, once."""
    index, column, option = heldout.index, heldout.options.column_in_pool, "heldout.pool_text_column"
    found = Contamination.none()
    if index is None or column is None:
        return found
    option = "heldout.text_column" if heldout.options.pool_text_column is None else option
    for positions, _, batch in positioned_batches(source, [column], 0, source.num_rows):
        found = found.joined(_like(index, _texts(batch.column(0), column, option), positions))
        on_rows(int(positions[-1]) + 1 if len(positions) else 0)
    return found


def near_text_at(source: PoolSource, heldout: HeldOut, positions: np.ndarray) -> Contamination:
    """Return those of some rows, distinct and ascending, whose texts are like a held-out one."""
    index, column = heldout.index, heldout.options.column_in_pool
    if index is None or column is None or not len(positions):
        return Contamination.none()
    texts = source.take(positions, [column]).column(0).combine_chunks()
    return _like(index, _texts(texts, column, "heldout.text_column"), positions)


def _like(index: TextIndex, texts: pa.Array, positions: np.ndarray) -> Contamination:
    like = index.look_up(texts)
    reasons = np.where(like.same, REASONS.index("same text"), REASONS.index("n-gram overlap"))
    return Contamination(positions[like.rows], like.nearest, like.shares, reasons)


def contamination_table(source: PoolSource, heldout: HeldOut, found: Contamination) -> pa.Table:
    """Return heldout.parquet: file, row and id of every row of the pool that is nearly equal to a held-out one.

    Beside them: heldout_id, the held-out row's name; similarity, a cosine or, of texts, a share of n-grams; and reason.
    """
    files, rows = source.locate(found.positions)
    return pa.table(
        {
            "file": pa.array(files, pa.string()),
            "row": pa.array(rows, pa.int64()),
            "id": ids_to_arrow(ids_at(source, found.positions)),
            "heldout_id": pa.array([heldout.names[k] for k in found.nearest.tolist()], pa.string()),
            "similarity": pa.array(found.similarities, pa.float64()),
            "reason": pa.array([REASONS[k] for k in found.reasons.tolist()], pa.string()),
        }
    )


def overlap_with(heldout: HeldOut, rows: Tensor) -> int:
    """Return how many of n rows (features, n x D) are nearly equal to a held-out one."""
    query = heldout.query
    return 0 if query is None else len(near_among(rows, query).positions)
