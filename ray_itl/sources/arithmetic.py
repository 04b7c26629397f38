"""Computing with columns as conditions do: whole numbers widen as far as they must, times move by intervals."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_itl.sources.constants import EXACT, Constant, Operand, UnfitError
from ray_itl.sources.moments import Moment

_functions: Any = pc  # made as the module is imported, so that no type checker knows them
_COMPUTED: dict[str, Callable[[Any, Any], Any]] = {
    "+": EXACT.add, "-": EXACT.subtract, "*": EXACT.multiply, "/": EXACT.divide
}  # fmt: skip
_CHECKED = {"+": "add_checked", "-": "subtract_checked", "*": "multiply_checked"}


def compute(sign: str, left: Operand, right: Operand) -> Operand:
    """Return `left sign right`: whole numbers widen as far as they must, and a quotient is a float.

    Raises:
        UnfitError: the two are not numbers, nor a time and an interval.
    """
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _compute_constants(sign, left, right)
    kinds = [each.kind if isinstance(each, Constant) else each.type for each in (left, right)]
    if any(kind == "an interval" or is_time(kind) for kind in kinds):
        return _shifted(sign, left, right)
    for kind in kinds:
        if kind != "a number" and not is_number(kind):
            raise UnfitError(f"there is {kind} beside {sign}", "compute with numbers")
    if sign == "/":
        return _functions.divide(*(_as_floats(each) for each in (left, right)))
    if floats := [kind for kind in kinds if _is(pa.types.is_floating, kind)]:
        return pc.call_function(_CHECKED[sign], [_in_floats(each, floats[0]) for each in (left, right)])
    return _compute_exactly(sign, left, right)


def negated(value: Operand) -> Operand:
    """Return `-value`; UnfitError where it is no number."""
    if isinstance(value, Constant) and value.kind in ("a number", "an interval"):
        return replace(value, value=-value.value, text=f"-{value.text}")
    return compute("-", Constant("a number", 0, "0"), value)


def _is(test: Callable[[pa.DataType], bool], kind: Any) -> bool:
    return isinstance(kind, pa.DataType) and test(kind)


def is_time(kind: Any) -> bool:
    """Whether a type is one of dates, times or the time between them."""
    tests = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_time, pa.types.is_duration)
    return any(_is(test, kind) for test in tests)


def is_number(kind: Any) -> bool:
    """Whether a type is one of numbers."""
    return any(_is(test, kind) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))


def widened(value: Operand) -> pa.Array | pa.Scalar:
    """Return whole numbers or decimals as decimals of 256 bits, which hold sums and products of any 64-bit numbers."""
    if isinstance(value, Constant):
        exact = EXACT.create_decimal(value.value)
        scale = max(0, -int(exact.as_tuple().exponent))
        return pa.scalar(exact, pa.decimal256(max(1, exact.adjusted() + 1 + scale, scale), scale))
    if pa.types.is_decimal(value.type):
        return value.cast(pa.decimal256(value.type.precision, value.type.scale))
    return value.cast(pa.decimal256(20, 0))


def _compute_exactly(sign: str, left: Operand, right: Operand) -> pa.Array | pa.Scalar:
    """Compute with whole numbers and decimals: in 64 bits where these hold all results, else in 256."""
    both = (left, right)
    if all(_fits_64(each) for each in both):
        try:
            return pc.call_function(_CHECKED[sign], [_in_64(each) for each in both])
        except pa.ArrowInvalid:  # too large for them
            pass
    if any(isinstance(each, Constant) and isinstance(each.value, Decimal) for each in both) and not any(
        _is(pa.types.is_decimal, getattr(each, "type", None)) for each in both
    ):
        return pc.call_function(_CHECKED[sign], [_as_floats(each) for each in both])
    return pc.call_function(_CHECKED[sign], [widened(each) for each in both])


def _fits_64(value: Operand) -> bool:
    if isinstance(value, Constant):
        return isinstance(value.value, int) and -(2**63) <= value.value < 2**63
    return pa.types.is_integer(value.type) and value.type != pa.uint64()


def _in_64(value: Operand) -> pa.Array | pa.Scalar:
    return pa.scalar(value.value, pa.int64()) if isinstance(value, Constant) else value.cast(pa.int64())


def _as_floats(value: Operand) -> pa.Array | pa.Scalar:
    return _in_floats(value, pa.float64())


def _in_floats(value: Operand, kind: pa.DataType) -> pa.Array | pa.Scalar:
    kind = pa.float32() if kind == pa.float16() else kind
    if isinstance(value, Constant):
        return pa.scalar(float(value.value), kind)
    if pa.types.is_floating(value.type):
        return value.cast(pa.float32()) if value.type == pa.float16() else value
    return pc.cast(value, pa.float64(), safe=False)


def _compute_constants(sign: str, left: Constant, right: Constant) -> Constant:
    kinds, text = (left.kind, right.kind), f"{left.text} {sign} {right.text}"
    if kinds == ("a number", "a number"):
        if sign == "/" and not right.value:
            raise UnfitError(f"{text} is a division by zero", "divide by another number")
        value = _COMPUTED[sign](Decimal(left.value), Decimal(right.value))
        whole = isinstance(left.value, int) and isinstance(right.value, int) and sign != "/"
        return Constant("a number", int(value) if whole else value, text)
    if sign in "+-" and kinds[1] == "an interval":
        change = right.value if sign == "+" else -right.value
        if kinds[0] in ("a date", "a timestamp"):
            moved = Moment(left.value.nanoseconds + change, left.value.zoned)
            return Constant("a timestamp", moved, text)
        if kinds[0] == "an interval":
            return Constant("an interval", left.value + change, text)
    raise UnfitError(f"{text} is not known here", "compute with numbers, or with a time and an interval")


def _shifted(sign: str, left: Operand, right: Operand) -> pa.Array | pa.Scalar:
    """Return times moved by an interval, or the intervals between times."""
    if sign not in "+-" or (isinstance(left, Constant) and sign == "-"):
        raise UnfitError(f"times cannot be on both sides of {sign}", "write like time - interval '1' day")
    sides = [_interval(each) if isinstance(each, Constant) else _timestamps(each) for each in (left, right)]
    return pc.call_function(_CHECKED[sign], sides)


def _interval(constant: Constant) -> pa.Scalar:
    if constant.kind != "an interval":
        raise UnfitError(f"{constant.text} is {constant.kind}", "move times by an interval, like interval '1' day")
    if constant.value % 1000:
        return pa.scalar(constant.value, pa.duration("ns"))
    return pa.scalar(datetime.timedelta(microseconds=constant.value // 1000), pa.duration("us"))


def _timestamps(column: pa.Array | pa.Scalar) -> pa.Array | pa.Scalar:
    return column.cast(pa.timestamp("us")) if pa.types.is_date(column.type) else column
