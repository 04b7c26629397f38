"""What the picks come from: shares of a column's values in the picks beside those in a sample of the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.io.source import PoolSource
from ray_itl.report.parts import Mix

_MOST_COLUMNS = 4
_MOST_VALUES = 50
_NAMED_VALUES = 10
_OTHERS = "(all others)"
_MISSING = "(missing)"


def source_mixes(source: PoolSource, picked: np.ndarray, sample: np.ndarray, columns: Sequence[str]) -> list[Mix]:
    """Return the mix of those columns (at most four) that hold few values, such as a source or a language.

    A column counts if it is of text, whole numbers or true and false, and has 2 to 50 values in the picks and the
    sample together, of which it repeats each at least twice on average. The ten values of the largest shares are named,
    the rest is one group.

    Args:
        source: The pool.
        picked: Positions of the picks.
        sample: Positions of rows drawn from the pool at random.
        columns: Names of columns, each once.
    """
    if not len(sample) or not columns:
        return []
    tables = [source.take(positions, columns) for positions in (picked, sample)]
    mixes = []
    for name in columns:
        if all(_groups(table.schema.field(name).type) for table in tables):
            counts = [_counts(table.column(name)) for table in tables]
            if (mix := _mix(name, *counts)) is not None:
                mixes.append(mix)
    return mixes[:_MOST_COLUMNS]


def _groups(kind: pa.DataType) -> bool:
    """Whether values of a type may name groups."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    counted = pc.call_function("value_counts", [column])
    return Counter({_name(row["values"].as_py()): row["counts"].as_py() for row in counted})


def _name(value: object) -> str:
    return _MISSING if value is None else str(value)


def _mix(name: str, picks: Counter[str], pool: Counter[str]) -> Mix | None:
    num_picks, sampled = picks.total(), pool.total()
    distinct = {*picks, *pool}
    if not 2 <= len(distinct) <= min(_MOST_VALUES, (num_picks + sampled) // 2):
        return None
    shares = {value: (picks[value] / num_picks, pool[value] / sampled) for value in distinct}
    ordered = sorted(distinct, key=lambda value: (-max(shares[value]), value))
    named, others = ordered[:_NAMED_VALUES], ordered[_NAMED_VALUES:]
    values = [*named, *([_OTHERS] if others else [])]
    rest = [tuple(sum(shares[value][k] for value in others) for k in (0, 1))] if others else []
    both = [*(shares[value] for value in named), *rest]
    return Mix(name, values, [pair[0] for pair in both], [pair[1] for pair in both], sampled)
