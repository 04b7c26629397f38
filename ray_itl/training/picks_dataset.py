"""Picks as a torch Dataset: some columns of a table, and features beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ray_itl.errors import InputError

FEATURES = "features"
Transform = Callable[[dict[str, Any]], Any]


class PicksDataset(Dataset):
    """Picks in order of rank, each a mapping from column to value, for a `torch.utils.data.DataLoader`.

    Numbers are tensors of no dimension and lists of numbers, all of one length, tensors of one; texts, bytes and
    everything else stay Python values. With text and numbers alone the loader's own collation works; bytes and ragged
    lists need a `transform` that makes tensors of them, or a `collate_fn`.
    """

    def __init__(self, columns: Mapping[str, Tensor | list[Any]], transform: Transform | None = None) -> None:
        """Take columns of equal length; `transform` gets each row's mapping and returns what the loader is given."""
        self._columns = dict(columns)
        self._transform = transform

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __getitem__(self, index: int) -> Any:
        row = {name: values[index] for name, values in self._columns.items()}
        return row if self._transform is None else self._transform(row)


def picked_rows(
    table: pa.Table, columns: Sequence[str], features: Tensor | None, transform: Transform | None
) -> PicksDataset:
    """Return some columns of the picks, and their features where given, as a torch Dataset.

    Args:
        table: The picks, n rows.
        columns: Names in the table.
        features: n x D, put beside the columns as "features".
        transform: See `PicksDataset`.

    Raises:
        InputError: a column that there is not, or a value that is missing where no transform could mend it.
    """
    unknown = [name for name in columns if name not in table.column_names]
    if unknown:
        raise InputError(
            f"columns={list(columns)} names {unknown[0]!r}, which the selection has not: use some of "
            f"{', '.join(table.column_names)}"
        )
    values = {name: _values(name, table.column(name), may_lack=transform is not None) for name in columns}
    if features is not None:
        values[FEATURES] = features
    return PicksDataset(values, transform)


def _values(name: str, column: pa.ChunkedArray, may_lack: bool) -> Tensor | list[Any]:
    """Return a column as one tensor where all its values are numbers or lists of as many numbers, else as a list."""
    if column.null_count:
        if may_lack:
            return column.to_pylist()
        rank = column.is_null().index(True).as_py() + 1
        raise InputError(
            f"column {name!r} has no value at rank {rank}: fill it in the pool, leave it out of columns=, or give a "
            "transform= that deals with None"
        )
    values = column.combine_chunks()
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return torch.from_numpy(np.array(values.to_numpy(zero_copy_only=False)))  # a copy: Arrow's are read-only
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _rows_of_numbers(values)
    return values.to_pylist()


def _rows_of_numbers(lists: pa.Array) -> Tensor | list[Any]:
    inner = lists.flatten()
    number = pa.types.is_integer(lists.type.value_type) or pa.types.is_floating(lists.type.value_type)
    length = len(inner) // max(len(lists), 1)
    if not number or inner.null_count or any(len(part) != length for part in lists):
        return lists.to_pylist()
    return torch.from_numpy(np.array(inner.to_numpy(zero_copy_only=False))).reshape(len(lists), length)
