"""Comparing columns as conditions do: exactly, over all types of numbers and of times."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.sources.arithmetic import is_number, is_time, widened
from ray_itl.sources.constants import Bracket, Constant, Operand, UnfitError, bracket
from ray_itl.sources.moments import NANOSECONDS
from ray_itl.sources.types import is_text
from ray_itl.sources.values import is_bytes, is_uuid, plain_array

_functions: Any = pc  # made as the module is imported, so that no type checker knows them
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
_ARROWS = {"=": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compare(sign: str, left: Operand, right: Operand) -> pa.Array | pa.Scalar:
    """Return where `left sign right` holds; null where one side is.

    Raises:
        UnfitError: the two are of different kinds.
    """
    if isinstance(left, Constant) and isinstance(right, Constant):
        if left.kind != right.kind:
            raise UnfitError(f"{left.text} is {left.kind} and {right.text} {right.kind}", "compare values of one kind")
        return pa.scalar(bool(_COMPARED[sign](left.value, right.value)))
    if isinstance(left, Constant):
        return compare(_MIRRORED.get(sign, sign), right, left)
    if isinstance(right, Constant):
        if pa.types.is_null(left.type):
            return left.cast(pa.bool_())
        return _compare_with(sign, left, bracket(right, left.type))
    return _compare_columns(sign, left, right)


def is_in(value: Operand, constants: Sequence[Constant]) -> pa.Array | pa.Scalar:
    """Return where a column is one of some constants; null where it is null.

    Raises:
        UnfitError: a constant is of another kind than the column.
    """
    if isinstance(value, Constant):
        return pa.scalar(any(compare("=", value, each).as_py() for each in constants))
    if pa.types.is_null(value.type):
        return value.cast(pa.bool_())
    found = [bracket(each, value.type) for each in constants]
    storage = _ordered(value)
    low = [each.low for each in found if each.is_value]
    zeros = [0.0, -0.0] if pa.types.is_floating(storage.type) and 0.0 in low else []  # which Arrow tells apart here
    values = pa.array([*low, *zeros], storage.type)
    return _functions.if_else(pc.is_valid(value), pc.is_in(storage, values), pa.scalar(None, pa.bool_()))


def as_truth(value: Operand) -> pa.Array | pa.Scalar:
    """Return a value that is true or false as Arrow has it; UnfitError where it is neither."""
    if isinstance(value, Constant):
        if value.kind != "true or false":
            raise UnfitError(f"{value.text} is {value.kind}, not true or false", "compare it with something")
        return pa.scalar(value.value)
    if pa.types.is_null(value.type):
        return value.cast(pa.bool_())
    if not pa.types.is_boolean(value.type):
        raise UnfitError(f"it is of type {value.type}, not true or false", "compare it with something")
    return value


def as_text(value: Operand) -> pa.Array | pa.Scalar:
    """Return a value that is text as Arrow has it; UnfitError where it is none."""
    if isinstance(value, Constant):
        if value.kind != "text":
            raise UnfitError(f"{value.text} is {value.kind}, not text", "write text in single quotes")
        return pa.scalar(value.value)
    if pa.types.is_null(value.type):
        return value.cast(pa.string())
    if not is_text(value.type):
        raise UnfitError(f"it is of type {value.type}, not text", "name a column of text")
    return value


def _known(value: pa.Array | pa.Scalar, truth: bool) -> pa.Array | pa.Scalar:
    """Return a truth for every row, null where a value is."""
    return _functions.if_else(pc.is_valid(value), pa.scalar(truth), pa.scalar(None, pa.bool_()))


def _compare_with(sign: str, column: pa.Array | pa.Scalar, place: Bracket) -> pa.Array | pa.Scalar:
    """Compare a column with a constant, given where that stands among the values of the column's type."""
    if sign in ("=", "!="):
        if not place.is_value:
            return _known(column, sign == "!=")
        return _by_arrow(sign, column, place.low)
    side, beyond = (place.low, sign == ">") if sign in ("<=", ">") else (place.high, sign == "<")
    return _known(column, beyond) if side is None else _by_arrow(sign, column, side)


def _by_arrow(sign: str, column: pa.Array | pa.Scalar, value: Any) -> pa.Array | pa.Scalar:
    storage = _ordered(column)
    return pc.call_function(_ARROWS[sign], [storage, pa.scalar(value, storage.type)])


def _ordered(column: pa.Array | pa.Scalar) -> pa.Array | pa.Scalar:
    """Return a column in a type that compares as it does: whole numbers of units for times, bytes for UUIDs."""
    kind = column.type
    if is_uuid(kind):
        return (column.storage if isinstance(column, pa.ExtensionArray) else column.value).cast(pa.binary())
    if is_bytes(kind):
        return column.cast(pa.binary())
    if kind == pa.float16():
        return column.cast(pa.float32())
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return column.cast(pa.int32()).cast(pa.int64())
    if pa.types.is_date64(kind):
        return column.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
    return column.cast(pa.int64()) if is_time(kind) else column


def _compare_columns(sign: str, left: Any, right: Any) -> pa.Array | pa.Scalar:
    kinds = left.type, right.type
    if any(map(pa.types.is_null, kinds)):
        return _functions.and_kleene(_known(left, True), _known(right, True))
    if all(map(is_number, kinds)):
        return _compare_numbers(sign, left, right)
    if all(map(is_text, kinds)):
        left, right = left.cast(pa.large_string()), right.cast(pa.large_string())
    elif all(is_bytes(kind) or is_uuid(kind) for kind in kinds):
        left, right = _ordered(left), _ordered(right)
    elif all(map(is_time, kinds)):
        left, right = _in_one_unit(left, right)
    elif not all(map(pa.types.is_boolean, kinds)):
        raise UnfitError(f"values of type {kinds[0]} and {kinds[1]} cannot be compared", "compare values of one kind")
    return pc.call_function(_ARROWS[sign], [left, right])


def _in_one_unit(left: Any, right: Any) -> tuple[Any, Any]:
    """Return times as whole numbers of one unit, however far they are from each other."""
    kinds = left.type, right.type
    if sum(pa.types.is_timestamp(kind) and kind.tz is not None for kind in kinds) == 1:
        raise UnfitError("the times of one column have a zone, those of the other none", "compare each with a constant")
    families = [(pa.types.is_time(kind), pa.types.is_duration(kind)) for kind in kinds]
    if families[0] != families[1]:
        raise UnfitError(f"values of type {kinds[0]} and {kinds[1]} cannot be compared", "compare values of one kind")
    sides = [_ordered(each) for each in (left, right)]
    units = [NANOSECONDS["D" if pa.types.is_date(kind) else kind.unit] for kind in kinds]
    if units[0] == units[1]:
        return sides[0], sides[1]
    both = [
        pc.call_function("multiply", [widened(s), pa.scalar(u, pa.decimal256(14, 0))])
        for s, u in zip(sides, units, strict=True)
    ]
    return both[0], both[1]


def _compare_numbers(sign: str, left: Any, right: Any) -> pa.Array | pa.Scalar:
    kinds = left.type, right.type
    floats = [pa.types.is_floating(kind) for kind in kinds]
    if all(floats):
        left, right = left.cast(pa.float64()), right.cast(pa.float64())
    elif any(floats):
        if any(pa.types.is_decimal(kind) or (pa.types.is_integer(kind) and kind.bit_width > 32) for kind in kinds):
            return _one_by_one(sign, left, right)  # Python compares them exactly, Arrow rounds
        left, right = left.cast(pa.float64()), right.cast(pa.float64())
    elif len(set(kinds)) > 1 and (pa.uint64() in kinds or any(map(pa.types.is_decimal, kinds))):
        left, right = widened(left), widened(right)
    return pc.call_function(_ARROWS[sign], [left, right])


def _one_by_one(sign: str, left: Any, right: Any) -> pa.Array:
    size = len(left) if isinstance(left, pa.Array) else len(right)
    sides = (each.to_pylist() if isinstance(each, pa.Array) else [each.as_py()] * size for each in (left, right))
    pairs = zip(*sides, strict=True)
    return pa.array([None if None in pair else _COMPARED[sign](*pair) for pair in pairs], pa.bool_())


def field_of(column: pa.Array, path: Sequence[str]) -> pa.Array:
    """Return a column, or the field of it that a path of names leads to, in a type that Arrow computes with.

    Raises:
        UnfitError: there is no such field.
    """
    for name in path:
        column = plain_array(column)
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            raise UnfitError(f"there is no field {name} in it", "write a name with a point in it in double quotes")
        column = pc.struct_field(column, [name])
    return column if is_uuid(column.type) else plain_array(column)
