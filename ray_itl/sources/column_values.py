"""Which values some columns of a source hold, and in which type they are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.values import Key, UnfitValueError, comparable_type, joined_type, keys_of, labels_of, plain_array
from ray_itl.sources.written import how_to_write, keys_for, nearest_words

MAX_VALUES = 10_000


@dataclass(frozen=True)
class ColumnValues:
    """The values of one column."""

    name: str
    kind: pa.DataType
    """The comparable type of all of them (see `values.comparable_type`)."""
    keys: frozenset[Key]
    """Each value once."""
    complete: bool
    """Whether these are all: no more are looked for once there are more than MAX_VALUES."""

    def labels(self) -> dict[str, Key]:
        """Return the values by how they are shown, in the order of that text."""
        keys = list(self.keys)
        return dict(sorted(zip(labels_of(keys, self.kind), keys, strict=True), key=lambda shown: shown[0]))

    def key_of(self, value: Any, option: str) -> Key:
        """Return the key of a value that an option names.

        Raises:
            ConfigError: the column cannot hold it, or it may be two of its values.
        """
        try:
            keys = keys_for(value, self.kind)
        except UnfitValueError as error:
            raise ConfigError(
                f"{option}: column {self.name} is of type {self.kind}, which cannot hold {value!r} ({error}): "
                f"{how_to_write(self.kind)}"
            ) from error
        there = [key for key in keys if key in self.keys]
        if len(there) > 1:
            raise ConfigError(
                f"{option}: column {self.name} has both the bytes 0x{value} and those of the text {value!r}: write the "
                f"ones with 0x before them, or the others as 0x{value.encode().hex()}"
            )
        return there[0] if there else keys[0]

    def absent(self, key: Key, option: str) -> str:
        """Say that no row has a value that an option names, and what is near."""
        (label,) = labels_of([key], self.kind)
        return f"{option}: no row of the pool has {self.name}={label}: {nearest_words(label, self.labels())}"


def values_of(source: PoolSource, columns: Sequence[str], option: str) -> list[ColumnValues]:
    """Return the values of each column; reads the columns once.

    Raises:
        ConfigError: a column whose values cannot be told apart, or whose types in two files have no type in common
            (names the option).
        InputError: a value that is none, as text that is no UTF-8.
    """
    found = [_Values(name, option) for name in columns]
    for _, batch in column_batches(source, columns, 0, source.num_rows) if columns else ():
        for values in found:
            values.add(batch.column(values.name))
    return [values.joined() for values in found]


class _Values:
    """The values of a column as they are found, in the types of the files."""

    def __init__(self, name: str, option: str) -> None:
        self.name = name
        self._option = option
        self._kind = pa.null()
        self._by_type: dict[pa.DataType, pa.Array] = {}
        self._complete = True

    def add(self, column: pa.Array) -> None:
        """Take the values of a batch."""
        if column.type not in self._by_type:
            self._widen(column.type)
            self._by_type[column.type] = plain_array(column.slice(0, 0))
        if self._complete:
            both = [self._by_type[column.type], plain_array(column).unique()]
            self._by_type[column.type] = pa.concat_arrays(both).unique()
            self._complete = sum(map(len, self._by_type.values())) <= MAX_VALUES

    def _widen(self, kind: pa.DataType) -> None:
        comparable = comparable_type(kind)
        if comparable is None:
            raise ConfigError(
                f"{self._option}: column {self.name} is of type {kind}, whose values cannot be told apart: name one of "
                "text, numbers, true and false, dates and times, or bytes"
            )
        joined = joined_type(self._kind, comparable)
        if joined is None:
            raise ConfigError(
                f"{self._option}: column {self.name} is of type {self._kind} in one file and {comparable} in another, "
                "which cannot be compared: write it as one type"
            )
        self._kind = joined

    def joined(self) -> ColumnValues:
        """Return the values in the type that holds them all."""
        try:
            keys = {key for values in self._by_type.values() for key in keys_of(values, self._kind)}
        except UnfitValueError as error:
            raise InputError(f"column {self.name!r}: {error}; mend it in the pool") from error
        return ColumnValues(self.name, self._kind, frozenset(keys), self._complete)


def column_batches(
    source: PoolSource, columns: Sequence[str], start: int, stop: int
) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """Yield (positions, columns) of rows; ConfigError for an array, which has no columns."""
    rows = getattr(source, "row_batches", None)
    if rows is None:
        raise ConfigError(f"columns {', '.join(columns)} were asked for, but an array has none: hand over a table")
    position = start
    for ids, batch in rows(start, stop, columns, BadRows()):
        yield np.arange(position, position + len(ids)), batch
        position += len(ids)
