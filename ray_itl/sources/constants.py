"""Constants of a condition, and where they stand among the values that a column's type can hold."""

from __future__ import annotations

import decimal
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from ray_itl.sources.moments import NANOSECONDS, Moment, read_moment, read_time_of_day
from ray_itl.sources.types import is_text
from ray_itl.sources.values import is_bytes, is_uuid

ConstantKind = Literal["true or false", "a number", "text", "a date", "a timestamp", "a time of day", "an interval"]
EXACT = decimal.Context(prec=120, Emax=10_000, Emin=-10_000)
_HUGE = Decimal("1e400")
"""Beyond all numbers that a column can hold."""


class UnfitError(Exception):
    """Something that does not go with a column."""

    def __init__(self, why: str, remedy: str, is_placed: bool = False) -> None:
        """Take the reason, and what to write instead, in words; and whether the reason says where in the condition."""
        super().__init__(why)
        self.remedy = remedy
        self.is_placed = is_placed


@dataclass(frozen=True)
class Constant:
    """A value that stands in a condition."""

    kind: ConstantKind
    value: Any
    """bool, int or Decimal, str, Moment, or the nanoseconds of an interval."""
    text: str
    """As it was written, without quotes."""


Operand = pa.Array | pa.Scalar | Constant
"""A column or what was computed of some, what is the same for all rows, or what stands in the condition."""


class Bracket(NamedTuple):
    """Where a constant stands among the values of a type: between two neighbours, or on one."""

    low: Any
    """The largest value that is not above it; None where all are."""
    high: Any
    """The smallest value that is not below it; None where all are."""

    @property
    def is_value(self) -> bool:
        """Whether the type can hold it."""
        return self.low is not None and self.low == self.high


def number(text: str) -> Constant:
    """Return the number that a text of digits, with a point or an exponent, is: exactly."""
    value: int | Decimal = int(text) if text.isdigit() else Decimal(text)
    if isinstance(value, Decimal) and value and abs(value.adjusted()) > 400:
        value = Decimal("1e-400") if value.adjusted() < 0 else _HUGE
    return Constant("a number", value, text)


def bracket(constant: Constant, kind: pa.DataType) -> Bracket:
    """Return where a constant stands among the values of an Arrow type, which are those of `ordered_storage`.

    A number with a point means, among floats, the nearest of them: 0.1 is what a column of float32 shows as 0.1.

    Raises:
        UnfitError: the constant is of another kind than the type's values.
    """
    expected, remedy = _expected(constant, kind)
    if expected is not None and constant.kind != expected:
        raise _other_kind(constant, kind, remedy)
    if pa.types.is_integer(kind):
        bounds = np.iinfo(kind.to_pandas_dtype())
        return _whole(constant.value, int(bounds.min), int(bounds.max))
    if pa.types.is_floating(kind):
        return _among_floats(constant.value, kind.to_pandas_dtype())
    if pa.types.is_decimal(kind):
        found = _whole(EXACT.scaleb(EXACT.create_decimal(constant.value), kind.scale), *_digits(kind.precision))
        return Bracket(*(None if each is None else EXACT.scaleb(Decimal(each), -kind.scale) for each in found))
    if pa.types.is_duration(kind):
        return _among_units(constant.value, NANOSECONDS[kind.unit])
    if expected is None:
        return _among_times(constant, kind)
    value = _bytes_of(constant, kind) if is_uuid(kind) or is_bytes(kind) else constant.value
    return Bracket(value, value)


def _expected(constant: Constant, kind: pa.DataType) -> tuple[ConstantKind | None, str]:
    """Return of which kind a constant must be to be compared with a type, and how it is written; None for times."""
    if pa.types.is_boolean(kind):
        return "true or false", "write true or false"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "a number", "write a number, without quotes"
    if is_text(kind):
        return "text", f"write '{constant.text}', in single quotes"
    if is_uuid(kind) or is_bytes(kind):
        return "text", "write text, or bytes in hex like '0xff01'"
    return ("an interval", "write it like interval '2' hour") if pa.types.is_duration(kind) else (None, "")


def _other_kind(constant: Constant, kind: pa.DataType, remedy: str) -> UnfitError:
    return UnfitError(f"{constant.text} is {constant.kind}, and the values are of type {kind}", remedy)


def _digits(precision: int) -> tuple[int, int]:
    return 1 - 10**precision, 10**precision - 1


def _whole(value: int | Decimal, least: int, most: int) -> Bracket:
    """Return where a number stands among the whole numbers from `least` to `most`."""
    low, high = (int(EXACT.create_decimal(value).to_integral_value(rounding)) for rounding in _ROUNDINGS)
    if isinstance(value, int):
        low = high = value
    return Bracket(None if low < least else min(low, most), None if high > most else max(high, least))


_ROUNDINGS = (decimal.ROUND_FLOOR, decimal.ROUND_CEILING)


def _among_floats(value: int | Decimal, dtype: Any) -> Bracket:
    with np.errstate(over="ignore"):
        nearest = dtype(float(value) if isinstance(value, Decimal) or abs(value) < 2**1000 else np.sign(value) * np.inf)
    exact = isinstance(value, Decimal) and np.isfinite(nearest)
    if exact or (np.isfinite(nearest) and int(nearest) == value):
        return Bracket(float(nearest), float(nearest))
    if float(nearest) < value:
        return Bracket(float(nearest), float(np.nextafter(nearest, dtype(np.inf))))
    return Bracket(float(np.nextafter(nearest, dtype(-np.inf))), float(nearest))


def _among_units(nanoseconds: int, unit: int) -> Bracket:
    low, high = nanoseconds // unit, -(-nanoseconds // unit)
    least, most = -(2**63), 2**63 - 1
    return Bracket(None if low < least else min(low, most), None if high > most else max(high, least))


def _among_times(constant: Constant, kind: pa.DataType) -> Bracket:
    if pa.types.is_time(kind):
        moment = _moment(constant, kind, "write it like time '12:30:00'")
        return _among_units(moment.nanoseconds, NANOSECONDS[kind.unit])
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise UnfitError(f"columns of type {kind} cannot be compared", "name a column of text, numbers or times")
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    like = f"write it like timestamp '2026-01-31 12:00:00{'+00:00' if zoned else ''}'"
    like = like if pa.types.is_timestamp(kind) else "write it like date '2026-01-31'"
    moment = _moment(constant, kind, like)
    if zoned and not moment.zoned:
        clock = "" if ":" in constant.text else " 00:00:00"
        raise UnfitError(
            f"the column's times have a zone, and {constant.text} has none",
            f"write timestamp '{constant.text}{clock}+00:00', with how far it is from UTC",
        )
    if moment.zoned and not zoned:
        raise UnfitError(f"{constant.text} has a zone, and the column's times have none", "leave the zone out")
    return _among_units(moment.nanoseconds, NANOSECONDS["D" if pa.types.is_date(kind) else kind.unit])


def _moment(constant: Constant, kind: pa.DataType, remedy: str) -> Moment:
    """Return the moment that a constant is, or that its text names."""
    if constant.kind in (("a time of day",) if pa.types.is_time(kind) else ("a date", "a timestamp")):
        return constant.value
    if constant.kind != "text":
        raise _other_kind(constant, kind, remedy)
    try:
        return (read_time_of_day if pa.types.is_time(kind) else read_moment)(constant.value)
    except ValueError as error:
        raise UnfitError(f"of {constant.text!r}: {error}", remedy) from error


def _bytes_of(constant: Constant, kind: pa.DataType) -> Any:
    try:
        if is_uuid(kind):
            return uuid.UUID(constant.value).bytes
        return bytes.fromhex(constant.value[2:]) if constant.value.startswith("0x") else constant.value.encode()
    except ValueError as error:
        form = "123e4567-e89b-12d3-a456-426614174000" if is_uuid(kind) else "0xff01"
        raise UnfitError(f"{constant.value!r} is none of the column's values", f"write it like '{form}'") from error
