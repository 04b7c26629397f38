"""The picks as whole rows of the pool: with all columns that their files have, but for the embedding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.io.image_files import is_image_folder
from ray_itl.sources.base import PoolSource
from ray_itl.sources.files.image_columns import IMAGE
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.parquet import ParquetSource
from ray_itl.sources.taking import take_rows

_FEATURES = b"huggingface"
"""Under this name a schema says what Hugging Face's datasets make of a column, such as an image."""


def tables_by_file(
    source: ParquetSource | TableSource,
    positions: np.ndarray,
    columns: Sequence[str] | None = None,
    without_images: bool = False,
) -> Iterator[tuple[list[int], pa.Table]]:
    """Yield, for each file that holds some of the rows, their places among the positions, and the rows.

    Args:
        source: The pool.
        positions: Any order, repeats allowed.
        columns: Those to read, as far as a file has them; None: all of the file but the embedding.
        without_images: Whether folders of images give all but the images.
    """
    places_in: dict[str, list[int]] = defaultdict(list)
    for place, file in enumerate(source.locate(positions)[0] if len(positions) else []):
        places_in[file].append(place)
    for file, places in places_in.items():
        left_out = {IMAGE} if without_images and is_image_folder(file) else set()
        there = [name for name in source.columns_of(file) if name not in left_out]
        wanted = there if columns is None else [name for name in columns if name in there]
        yield places, source.take(positions[places], wanted)


@dataclass(frozen=True)
class SourceRows:
    """The picked rows, where they can be read again for as long as the pool is there."""

    source: PoolSource
    positions: np.ndarray
    """Of the picks, in order."""

    def __call__(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the rows, in order: some columns of them, or all but the embedding; a column that a file lacks is null.

        Raises:
            InputError: rows that cannot be read any more, a column that no row has, or columns of which files have
                types that no one type holds.
        """
        source = self.source
        if not isinstance(source, ParquetSource | TableSource):
            if columns:
                raise InputError(f"columns={list(columns)} cannot be had: the pool is an array, which has no columns")
            return pa.table({})
        parts = list(tables_by_file(source, self.positions, columns))
        table = _joined([part for _, part in parts])
        if missing := [name for name in columns or () if name not in table.column_names]:
            files = dict.fromkeys(source.locate(self.positions)[0] if parts else [])
            raise no_such_column(
                columns or (), missing[0], (name for file in files for name in source.columns_of(file))
            )
        order = np.empty(len(self.positions), dtype=np.int64)
        order[[place for places, _ in parts for place in places]] = np.arange(len(self.positions))
        told = source.metadata_of(source.locate(self.positions[:1])[0][0]) if parts else {}
        kept = {key: value for key, value in told.items() if key == _FEATURES}
        return take_rows(table, order).replace_schema_metadata(kept or None)


@dataclass(frozen=True)
class RowsInMemory:
    """The picked rows, read already: of a pool that is gone once the selection is made."""

    table: pa.Table

    def __call__(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return some columns, or all; InputError for one that there is not."""
        missing = [name for name in columns or () if name not in self.table.column_names]
        if missing:
            raise no_such_column(columns or (), missing[0], self.table.column_names)
        return self.table if columns is None else self.table.select(list(columns))


def no_such_column(asked: Sequence[str], missing: str, there: Iterable[str]) -> InputError:
    """Return the error about a column that no picked row has, given those that some have."""
    return InputError(
        f"columns={list(asked)} names {missing!r}, which no picked row has: use some of "
        f"{', '.join(dict.fromkeys(there))}, or of the columns of the selection's table"
    )


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    if not tables:
        return pa.table({})
    try:
        return pa.concat_tables([table.replace_schema_metadata(None) for table in tables], promote_options="permissive")
    except pa.ArrowException as error:
        name, kinds = _clash(tables)
        raise InputError(
            f"column {name!r} is of type {kinds} in different files, which one column cannot hold: name other "
            "columns=, or read selection.jsonl of the run directory (run.output=jsonl), where each row is as it was"
        ) from error


def _clash(tables: Sequence[pa.Table]) -> tuple[str, str]:
    """Return a column whose types cannot be unified, and the types."""
    kinds: dict[str, dict[pa.DataType, None]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, {})[field.type] = None
    for name, own in kinds.items():
        try:
            pa.unify_schemas([pa.schema([(name, kind)]) for kind in own], promote_options="permissive")
        except pa.ArrowException:
            return name, " and ".join(map(str, own))
    return next(iter(kinds)), "several"
