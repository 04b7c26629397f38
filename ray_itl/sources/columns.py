"""The columns of many files as those of one pool: each of one type, whether it stands in the files or in their folders.

Options ask for columns by name. What footers and folders say of them decides, before a row is read, in which type each
is read from every file, and whether that can be done at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.sources.encoding import Encoding, RawColumn
from ray_itl.sources.partitions import FolderColumns
from ray_itl.sources.schema import find_column, place
from ray_itl.sources.turns import PAIR, joined, pair_type, stands_in_pair, types_of
from ray_itl.sources.types import carried_type, cast, common_type, plain_type

_READ_ANYWAY = ("columns", "pool.columns", "pool.filter", "heldout.text_column", "heldout.pool_text_column")
"""Options that may name any column, one that is embedded, too."""


@dataclass(frozen=True)
class Asked:
    """The columns that options ask for."""

    id: str
    """Empty: positions are ids, or rows are named by their files and numbers."""
    embedding: str
    """Empty: there are none yet."""
    further: Mapping[str, str] = field(default_factory=dict)
    """Column -> the option that names it."""
    id_option: str = "id_column"
    embedding_option: str = "embedding_column"
    names_rows: bool = False
    """Whether, without an id column, a row's id is its file and its number there, rather than its position."""
    may_lack_id: bool = False
    """Whether that is done, too, where the id column is not there."""
    raw: RawColumn | None = None
    """The column that is embedded in place of one of embeddings; None: there is nothing that embeds."""

    def settled(self, schema: pa.Schema, file: str) -> Asked:
        """Return the same with a column to embed that has a name, or with none where rows have embeddings."""
        if self.raw is None:
            return self
        taken = {self.id, *(name for name, option in self.further.items() if option not in _READ_ANYWAY)}
        found = self.raw.find(schema, self.embedding, taken, file)
        if found is None:
            return replace(self, raw=None)
        further = {found: self.raw.option, **self.further}
        return replace(self, embedding="", further=further, raw=replace(self.raw, name=found))

    def encoding(self, kind: Callable[[str], pa.DataType], sample: Callable[[str], pa.Array]) -> Encoding | None:
        """Return what embeds the column to embed, once that is settled; None: there is none.

        `kind` gives the type of a column, `sample` some of its values.
        """
        if self.raw is None or not self.raw_column:
            return None
        column = self.raw_column
        return self.raw.encoder.on(column, kind(column), lambda: sample(column))

    @property
    def raw_column(self) -> str:
        """The column to embed, once that is settled; "": none."""
        return "" if self.raw is None or self.raw.name is None else self.raw.name

    def options(self) -> dict[str, str]:
        """Return column -> the option that names it, each column once."""
        own = {self.id: self.id_option, self.embedding: self.embedding_option}
        return {name: option for name, option in {**self.further, **own}.items() if name}


def by_option(columns: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return column -> the option that names it, which is "columns" where that is not said."""
    return dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "columns")


@dataclass(frozen=True)
class PoolSchema:
    """How columns are read from every file of a pool. Small, pickles."""

    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    """Those asked for by options, but for ids and embeddings, which are read as they are stored."""
    folders: FolderColumns = field(default_factory=FolderColumns)
    options: Mapping[str, str] = field(default_factory=dict)
    """Column -> the option that asks for it, for messages."""
    dataset: pa.Schema | None = None
    """Of a Dataset, its own schema: it decides which columns there are, and a file may lack them. A type of nulls
    leaves it to the files."""

    def lacks(self, column: str) -> bool:
        """Whether a column that a file has not is one of nulls there."""
        return column in self.folders.types or (self.dataset is not None and column in self.dataset.names)

    def type_of(self, column: str, stored: pa.DataType | None) -> pa.DataType:
        """Return the type of a column in the pool, given that in a file (None: it is not there)."""
        if column in self.types:
            return self.types[column]
        if self.dataset is not None and not pa.types.is_null(kind := self.dataset.field(column).type):
            return carried_type(kind)
        return carried_type(self.folders.types.get(column, pa.null()) if stored is None else stored)


class FileColumns:
    """Some columns as they come out of one file."""

    def __init__(
        self, schema: PoolSchema, file: str, stored: pa.Schema, columns: Sequence[str], option: str = "columns"
    ) -> None:
        """Find the columns; `stored` is the schema of the file.

        Raises:
            InputError: a column is neither there nor given by folders (names the file and the `option`).
        """
        self._file, self._options = file, {name: schema.options.get(name, option) for name in columns}
        self._given = {name: value for name, value in schema.folders.of(file).items() if name in columns}
        self.stored: list[str] = []
        """Those to be read from the file."""
        fields, kinds = [], types_of(stored)
        self._made = [name for name in columns if name not in self._given and stands_in_pair(name, kinds)]
        for name in columns:
            if name in self._made:
                fields.append(pa.field(name, schema.type_of(name, pair_type(kinds))))
                continue
            if name in self._given or (name not in stored.names and schema.lacks(name)):
                fields.append(pa.field(name, schema.type_of(name, None)))
                continue
            if schema.dataset is not None:
                find_column(schema.dataset, name, self._options[name], "")
            own = find_column(stored, name, self._options[name], file, list(schema.folders.types))
            fields.append(own.with_type(schema.type_of(name, own.type)))
            self.stored.append(name)
        self.stored += [name for name in PAIR if self._made and name not in self.stored]
        self.schema = pa.schema(fields)
        """All of them, as batches come."""

    def conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch of the stored columns as one of all columns.

        Raises:
            InputError: a value cannot be read as the pool's type.
        """
        if batch.schema.equals(self.schema):
            return batch
        arrays = [self._array(batch, field) for field in self.schema]
        if not arrays:
            return batch
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _array(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        if field.name not in self.stored and field.name not in self._made:
            value = folder_value(self._given.get(field.name), field.name, field.type, self._file)
            return cast(pa.repeat(value, batch.num_rows), field.type)
        made = field.name in self._made
        array = joined(*(batch.column(name) for name in PAIR)) if made else batch.column(field.name)
        try:
            return cast(array, field.type)
        except pa.ArrowException as error:
            raise InputError(
                f"{place(self._file)}column {field.name!r} is of type {array.type} and cannot be read as {field.type}, "
                f"the type of the pool's column: {error}; rewrite the file, or leave the column out of "
                f"{self._options[field.name]}"
            ) from error


def folder_value(value: Any, column: str, kind: pa.DataType, file: str) -> pa.Scalar:
    """Return the value that folders give of a column, in the pool's type (a dictionary's values for such a type).

    Raises:
        InputError: it is none of that type.
    """
    kind = plain_type(kind)
    try:
        return pa.scalar(value).cast(kind) if isinstance(value, str) else pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"file {file!r}: its folder says that column {column!r} is {value!r}, which is no {kind} as the column in "
            "the files is; rename the folder, or the column in the files"
        ) from error


def pool_types(
    asked: Asked, found: Sequence[tuple[str, Mapping[str, pa.DataType]]], schema: PoolSchema
) -> dict[str, pa.DataType]:
    """Return the type of each further column over all files.

    Args:
        asked: The columns that options ask for.
        found: (file, types of those of the columns that it has), of files with rows.
        schema: What folders, or a Dataset, say.

    Raises:
        InputError: files have types that nothing unites, or a folder's value is of another type than the files'.
    """
    types = {}
    for name, option in asked.further.items():
        if schema.dataset is not None and not pa.types.is_null(kind := schema.dataset.field(name).type):
            types[name] = carried_type(kind)
            continue
        stored = [(file, kinds[name]) for file, kinds in found if name in kinds]
        types[name] = common_type(stored, name, option) if stored else schema.type_of(name, None)
        for file, _ in found:
            if name in schema.folders.of(file):
                folder_value(schema.folders.of(file)[name], name, types[name], file)
    return types


def dataset_words(asked: Asked, found: Sequence[tuple[str, Mapping[str, pa.DataType]]], schema: PoolSchema) -> str:
    """Return what a Dataset makes of its files that the files themselves do not say; "" if nothing."""
    if schema.dataset is None:
        return ""
    words = []
    for name in asked.options():
        kind = schema.dataset.field(name).type
        if any(kinds.get(name) != kind for _, kinds in found):
            values = [[file, repr(schema.folders.of(file).get(name))] for file, _ in found]
            digest = f", by folders {sha256(repr(values).encode()).hexdigest()}" if name in schema.folders.types else ""
            words.append(f"{name}: {kind}{digest}")
    return "; ".join(words)


def table_words(asked: Asked, given: Mapping[str, Mapping[str, pa.Scalar]]) -> str:
    """Return what the logs of tables say of columns asked for, that is not in the names or contents of files."""
    names = asked.options()
    values = [[path, name, repr(keys[name])] for path, keys in given.items() for name in names if name in keys]
    return f"by tables {sha256(repr(values).encode()).hexdigest()}" if values else ""
