"""Columns that are embedded while they are read: which of a file's columns that is, and what does it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.io.image_files import is_image_folder
from ray_itl.sources.bad_rows import Notes
from ray_itl.sources.files.image_columns import IMAGE
from ray_itl.sources.schema import WhichRow, name_columns, place
from ray_itl.sources.turns import MESSAGES, PAIR, stands_in_pair, types_of
from ray_itl.sources.types import plain_type

RawBatch = tuple[np.ndarray, pa.RecordBatch, WhichRow, Notes | None]
"""Ids and columns of adjacent rows, the words for each, and where to note bad ones."""
ReadRows = Callable[[int, int, Sequence[str]], Iterator[RawBatch]]
"""Yields the rows `first <= row < stop` of those that are wanted, with some columns, in order."""
USUAL = ("text", "content", "document", "passage", "sentence", "body", "abstract", "image", "messages")
"""What a column that is to be embedded is mostly called."""


class MakesEncodings(Protocol):
    """An encoder, which may be loaded when it is first needed."""

    def on(self, column: str, kind: pa.DataType, sample: Callable[[], pa.Array]) -> Encoding:
        """Return what embeds a column of a type, of which `sample` gives some values."""
        ...


class Encoding(MakesEncodings, Protocol):
    """What embeds one column. It pickles, without the model."""

    column: str
    dim: int
    """D."""
    digest: str
    """Of all that decides an embedding, but the value that is embedded."""
    memory_bytes: int
    """Memory that a process which embeds takes for it."""
    num_embedded: int
    """How many values were embedded here, as they were not known."""

    @property
    def contents(self) -> str:
        """A digest of all values that were asked for, in order."""
        ...

    def embedded(self, num_rows: int, read: ReadRows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `(ids, embeddings)` of n rows in order: n x D float32, NaN for rows that were noted as bad.

        Rows may be read twice.

        Raises:
            InputError: rows that cannot be embedded, where there is nothing to note them (names the first).
        """
        ...


def encoding_of(source: object) -> Encoding | None:
    """Return what embeds the rows of a source; None where they have embeddings."""
    return getattr(source, "encoding", None)


@dataclass(frozen=True)
class RawColumn:
    """The column that is to be embedded, as options ask for it, and what embeds it."""

    encoder: MakesEncodings
    name: str | None
    """None: the embeddings that rows have, else what may be meant."""
    option: str
    """The option that names it."""
    like: str = ""
    """What it is called in the pool, where these are other rows."""

    def find(self, schema: pa.Schema, embedding: str, taken: Collection[str], file: str) -> str | None:
        """Return the column among those of a file; None where rows have embeddings, and no column is named.

        It is the one column of texts or images that there is or, of several, the one with a usual name, as which the
        messages count that a prompt and a completion are; one named like that of the pool comes first, and in folders
        of images these do before what a file beside them says.

        Args:
            schema: The file's.
            embedding: The column of embeddings that would be taken as it is.
            taken: Columns that are used for something else, as ids are.
            file: Its name, "" in memory.

        Raises:
            InputError: it is not certain which, or there is none (names the candidates and the option).
        """
        if self.name is not None:
            return self.name
        if embedding in schema.names:
            return None
        candidates = [each.name for each in schema if may_be_raw(each.type) and each.name not in taken]
        if stands_in_pair(MESSAGES, types_of(schema)) and not {*PAIR} & {*taken}:
            candidates.append(MESSAGES)
        if self.like in candidates:
            return self.like
        if is_image_folder(file):
            return IMAGE
        usual = [name for name in candidates if name in USUAL]
        found = candidates if len(candidates) == 1 else usual
        if len(found) == 1:
            return found[0]
        if not candidates:
            raise InputError(
                f"{place(file)}no column of texts or images that could be embedded; the columns are "
                f"{name_columns(schema.names)}; set {self.option} to one of them"
            )
        raise InputError(
            f"{place(file)}several columns could be embedded: {name_columns(found or candidates)}; set {self.option} "
            "to one of them"
        )


def may_be_raw(kind: pa.DataType) -> bool:
    """Whether values of a type are texts, encoded images or conversations."""
    kind = plain_type(kind)
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        value = kind.value_type
        return pa.types.is_struct(value) and value.get_field_index("content") >= 0
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return is_text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
