"""Values as people write them in options: read in the type of the column that they are meant for."""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.sources.moments import NANOSECONDS, read_moment, read_time_of_day
from ray_itl.sources.types import is_text
from ray_itl.sources.values import NAN, Key, UnfitValueError, float_key, is_bytes, is_uuid

_MAX_SHOWN = 10
_EXACT = decimal.Context(prec=120, Emax=10_000, Emin=-10_000)


def keys_for(value: Any, kind: pa.DataType) -> list[Key]:
    """Return the keys that a value as people write it (of YAML's types) may stand for in a comparable type.

    They are one, but for bytes that are written as text: in hex, or the letters themselves.

    Raises:
        UnfitValueError: the type cannot hold it.
    """
    if value is None:
        return [None]
    for test, read in _READERS:
        if test(kind):
            return read(value, kind)
    raise UnfitValueError("it holds missing values alone")


def _number(value: Any) -> Decimal:
    """Return the number that is written, exactly; a float is what its shortest text says."""
    if isinstance(value, bool):
        raise UnfitValueError("true and false are no numbers")
    if isinstance(value, int | float | str):
        try:
            return _EXACT.create_decimal(value if isinstance(value, int) else str(value).strip().replace("_", ""))
        except decimal.DecimalException:
            pass
    raise UnfitValueError("it is no number")


def _whole_keys(value: Any, kind: pa.DataType) -> list[Key]:
    number = _number(value)
    if not number.is_finite() or number != number.to_integral_value(context=_EXACT):
        raise UnfitValueError("it is no whole number")
    bounds = np.iinfo(kind.to_pandas_dtype())
    if not bounds.min <= number <= bounds.max:
        raise UnfitValueError(f"it is not from {bounds.min} to {bounds.max}")
    return [int(number)]


def _float_keys(value: Any, kind: pa.DataType) -> list[Key]:
    number = _number(value)
    if number.is_nan():
        return [NAN]
    with np.errstate(over="ignore"):
        nearest = float(kind.to_pandas_dtype()(float(number)))
    if number.is_finite() and np.isinf(nearest):
        raise UnfitValueError("it is too large")
    if isinstance(value, int) and nearest != value:
        raise UnfitValueError(f"the nearest number there is {int(nearest)}")
    return [float_key(nearest)]


def _decimal_keys(value: Any, kind: pa.DataType) -> list[Key]:
    number = _number(value)
    if not number.is_finite() or number.adjusted() >= kind.precision - kind.scale:
        raise UnfitValueError("it is too large")
    if number != number.quantize(Decimal(1).scaleb(-kind.scale), context=_EXACT):
        raise UnfitValueError(f"it has more than {kind.scale} digits after the point")
    return [number]


def _bool_keys(value: Any, kind: pa.DataType) -> list[Key]:  # noqa: ARG001 - as all of them
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    word = str(value).strip().lower()
    if not isinstance(value, bool | str) or word not in words:
        raise UnfitValueError("it is neither true nor false")
    return [words[word]]


def _text_keys(value: Any, kind: pa.DataType) -> list[Key]:  # noqa: ARG001
    if isinstance(value, bool):
        raise UnfitValueError("YAML reads no, off, on and yes without quotes as false and true")
    if isinstance(value, bytes):
        raise UnfitValueError("bytes are no text")
    return [value if isinstance(value, str) else str(value)]


def _bytes_keys(value: Any, kind: pa.DataType) -> list[Key]:  # noqa: ARG001
    if isinstance(value, bytes):
        return [value]
    if not isinstance(value, str):
        raise UnfitValueError("it is no bytes")
    found = [_bytes_of_hex(value), _bytes_of_uuid(value) if "-" in value else None, value.encode("utf-8", "replace")]
    if value.startswith("0x") and found[0] is not None:
        return found[:1]
    return list(dict.fromkeys(each for each in found if each is not None))


def _bytes_of_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return None


def _bytes_of_uuid(text: str) -> bytes | None:
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None


def _uuid_keys(value: Any, kind: pa.DataType) -> list[Key]:  # noqa: ARG001
    found = value if isinstance(value, bytes) else _bytes_of_uuid(value) if isinstance(value, str) else None
    if found is None or len(found) != 16:
        raise UnfitValueError("it is no UUID")
    return [found]


def _time_keys(value: Any, kind: pa.DataType) -> list[Key]:
    unit = NANOSECONDS["D" if pa.types.is_date(kind) else kind.unit]
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    try:
        moment = (read_time_of_day if pa.types.is_time(kind) else read_moment)(value)
    except ValueError as error:
        raise UnfitValueError(str(error)) from error
    if moment.zoned != zoned:
        raise UnfitValueError("it has no zone" if zoned else "it has a zone, and the column none")
    if moment.nanoseconds % unit:
        raise UnfitValueError("it is more precise than the column")
    number = moment.nanoseconds // unit
    if not -(2**63) <= number < 2**63:
        raise UnfitValueError("it is beyond the times that the column can hold")
    return [number]


_READERS: Sequence[tuple[Callable[[pa.DataType], bool], Callable[[Any, pa.DataType], list[Key]]]] = (
    (pa.types.is_boolean, _bool_keys),
    (pa.types.is_integer, _whole_keys),
    (pa.types.is_floating, _float_keys),
    (pa.types.is_decimal, _decimal_keys),
    (is_text, _text_keys),
    (is_uuid, _uuid_keys),
    (is_bytes, _bytes_keys),
    (lambda kind: pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind), _time_keys),
)


def how_to_write(kind: pa.DataType) -> str:
    """Return how values of a comparable type are written, as the end of a message."""
    forms = (
        (pa.types.is_boolean, "write true or false"),
        (pa.types.is_integer, "write a whole number, like 3"),
        (pa.types.is_floating, "write a number, like 0.5"),
        (pa.types.is_decimal, f"write a number of {getattr(kind, 'scale', 0)} digits after the point"),
        (is_text, "write text, in quotes"),
        (is_uuid, "write it like 123e4567-e89b-12d3-a456-426614174000"),
        (is_bytes, "write the bytes in hex, like 0xff01"),
        (pa.types.is_date, "write it like 2026-01-31"),
        (pa.types.is_time, "write it like 12:30:00"),
        (
            pa.types.is_timestamp,
            f"write it like 2026-01-31 12:00:00{'' if getattr(kind, 'tz', None) is None else '+00:00'}",
        ),
    )
    return next((words for test, words in forms if test(kind)), "write null")


def nearest_words(value: str, labels: Iterable[str]) -> str:
    """Return which values there are, as the end of a message: the nearest to one that there is not, and a few more."""
    known = list(labels)
    near = get_close_matches(value, known, n=1, cutoff=0.6) or [
        each for each in known if each.strip().casefold() == value.strip().casefold()
    ]
    guess = f"did you mean {near[0]!r}? " if near else ""
    more = f" and {len(known) - _MAX_SHOWN:,} more" if len(known) > _MAX_SHOWN else ""
    return f"{guess}there are {', '.join(known[:_MAX_SHOWN])}{more}"
