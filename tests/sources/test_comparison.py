"""Conditions compare exactly, whatever the types, and say how to write what was meant."""

from __future__ import annotations

import datetime
import math
import operator
import uuid
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ray_itl.errors import ConfigError
from ray_itl.sources.open import open_source
from ray_itl.sources.sql import parse_condition
from tests.sources.helpers import pool_table, random_rows, read_range

_SIGNS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_INTEGERS = {kind: np.iinfo(kind.to_pandas_dtype()) for kind in (pa.int8(), pa.uint8(), pa.int64(), pa.uint64())}
_FLOATS = (pa.float32(), pa.float64())
_NUMBERS = [-(2**63), -1.5, -1, 0, 0.1, 0.5, 1, 2**24 + 1, 2**53, 2**53 + 1, 2**63, 2**64 - 1, 10**30, 1e300]


def _truth(condition: str, **columns: pa.Array) -> list[bool | None]:
    found = parse_condition(condition).truth(columns)
    return [found.as_py()] if isinstance(found, pa.Scalar) else found.to_pylist()


@st.composite
def _columns(draw: st.DrawFn) -> pa.Array:
    kind = draw(st.sampled_from([*_INTEGERS, *_FLOATS, pa.decimal128(12, 3)]))
    if kind in _INTEGERS:
        values = st.integers(int(_INTEGERS[kind].min), int(_INTEGERS[kind].max))
        near = [n for n in _NUMBERS if isinstance(n, int) and _INTEGERS[kind].min <= n <= _INTEGERS[kind].max]
        values = values | st.sampled_from(near)
    elif kind in _FLOATS:
        values = st.floats(width=kind.bit_width) | st.sampled_from([0.0, 1.0, 2.0**24, 2.0**53, math.inf])
    else:
        values = st.decimals(-(10**8), 10**8, places=3)
    return pa.array(draw(st.lists(st.none() | values, min_size=1, max_size=4)), kind)


@settings(max_examples=500)
@given(
    _columns(), st.sampled_from(sorted(_SIGNS)), st.integers() | st.sampled_from([n for n in _NUMBERS if n == int(n)])
)
@example(pa.array([2**53]), "=", 2**53 + 1)
@example(pa.array([2.0**53]), ">=", 2**53 + 1)
@example(pa.array([2**64 - 1], pa.uint64()), ">", -1)
@example(pa.array([100], pa.int8()), "<", 300)
def test_numbers_compare_as_numbers(column: pa.Array, sign: str, number: float) -> None:
    expected = [None if value is None else _SIGNS[sign](value, int(number)) for value in column.to_pylist()]
    assert _truth(f"a {sign} {int(number)}", a=column) == expected
    mirrored = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(sign, sign)
    assert _truth(f"{int(number)} {mirrored} a", a=column) == expected


@settings(max_examples=300)
@given(_columns(), _columns(), st.sampled_from(sorted(_SIGNS)))
def test_columns_of_numbers_compare_as_numbers(left: pa.Array, right: pa.Array, sign: str) -> None:
    size = min(len(left), len(right))
    pairs = list(zip(left.to_pylist()[:size], right.to_pylist()[:size], strict=True))
    expected = [None if None in pair else _SIGNS[sign](*pair) for pair in pairs]
    assert _truth(f"a {sign} b", a=left[:size], b=right[:size]) == expected


@settings(max_examples=300)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    st.integers(-(2**70), 2**70),
    st.sampled_from("+-*"),
)
def test_whole_numbers_widen_instead_of_overflowing(values: list[int], number: int, sign: str) -> None:
    compute = {"+": operator.add, "-": operator.sub, "*": operator.mul}[sign]
    bound = compute(values[0], number)
    assert _truth(f"a {sign} {number} >= {bound}", a=pa.array(values)) == [compute(v, number) >= bound for v in values]
    assert _truth(f"a {sign} a > {number}", a=pa.array(values)) == [compute(v, v) > number for v in values]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_with_a_point_means_the_nearest_of_the_column(value: float) -> None:
    column = pa.array([value, None], pa.float32())
    shown = column.cast(pa.string())[0].as_py()
    shown = f"{Decimal(shown):f}" if "." in f"{Decimal(shown):f}" else f"{Decimal(shown):f}.0"
    assert _truth(f"a = {shown}", a=column) == [True, None]
    assert _truth(f"a in ({shown})", a=column) == [True, None]
    assert _truth(f"a < {shown}", a=column) == [False, None]


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=1), st.integers(-(10**9), 10**9), st.sampled_from(sorted(_SIGNS))
)
def test_times_compare_over_units(seconds: list[int], milliseconds: int, sign: str) -> None:
    bound = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=milliseconds)
    expected = [_SIGNS[sign](Fraction(s), Fraction(milliseconds, 1000)) for s in seconds]
    naive = pa.array(seconds, pa.int64()).cast(pa.timestamp("s"))
    assert _truth(f"a {sign} timestamp '{bound}'", a=naive) == expected
    zoned = pa.array(seconds, pa.int64()).cast(pa.timestamp("s", "Asia/Tokyo"))
    assert _truth(f"a {sign} timestamp '{bound}+00:00'", a=zoned) == expected


_DAY = datetime.date(2024, 1, 2)
_TIME = datetime.datetime(2024, 1, 2, 12)
_COLUMNS: dict[str, pa.Array] = {
    "day": pa.array([_DAY, datetime.date(9999, 12, 31), None]),
    "ts": pa.array([_TIME, datetime.datetime(1960, 1, 1), None], pa.timestamp("ns")),
    "tz": pa.array([_TIME, datetime.datetime(1960, 1, 1), None], pa.timestamp("us", "Europe/Berlin")),
    "clock": pa.array([datetime.time(12, 30), datetime.time(1), None]),
    "flag": pa.array([True, False, None]),
    "view": pa.array(["en", "ü", None], pa.string_view()),
    "large": pa.array(["en", "ü", None], pa.large_string()),
    "category": pa.array(["en", "ü", None]).dictionary_encode(),
    "bytes": pa.array([b"en", b"\xff", None]),
    "uuid": pa.array([uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes, None], pa.uuid()),
    "half": pa.array(np.array([0.1, 2, 3], np.float16)),
    "decimal": pa.array([Decimal("1.50"), Decimal("-2.25"), None]),
    "none": pa.nulls(3),
    "list": pa.array([[1], [2], None]),
    "nested": pa.array([{"a": {"b": "x"}}, {"a": None}, None]),
    "größe": pa.array([1, 2, None]),
    "small": pa.array([1, -5, None], pa.int8()),
}


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("day < '2024-01-03'", [0]),
        ("day > timestamp '2024-01-01 12:00:00'", [0, 1]),
        ("day = date '9999-12-31'", [1]),
        ("ts > date '2024-01-02'", [0]),
        ("ts = '2024-01-02T12:00'", [0]),
        ("ts < '1960-01-01 00:00:00.000000001'", [1]),
        ("tz = timestamp '2024-01-02 13:00:00+01:00'", [0]),
        ("tz >= timestamptz '2024-01-02 12:00:00Z'", [0]),
        ("tz in (timestamp '1960-01-01 00:00 UTC')", [1]),
        ("ts > timestamp '2024-01-03 12:00:00' - interval '25' hour", [0]),
        ("ts - interval '1 day' < timestamp '2024-01-02'", [0, 1]),
        ("day + interval '2' weeks > ts", [0, 1]),
        ("ts - interval '13' hour > day", []),
        ("ts - interval '11' hour > day", [0]),
        ("clock > time '12:00'", [0]),
        ("clock = '12:30:00'", [0]),
        ("flag = true", [0]),
        ("flag in (false)", [1]),
        ("flag != flag", []),
        ("view = 'ü' or large = 'ü' or category = 'ü'", [1]),
        ("view like 'e%' and upper(large) = 'EN' and view = large and length(category) = 2", [0]),
        ("bytes = 'en'", [0]),
        ("bytes in ('0xff', '0x00')", [1]),
        ("uuid > '00000000-0000-0000-0000-000000000001'", [1]),
        ("half = 0.1", [0]),
        ("half >= 2", [1, 2]),
        ("decimal > 1.495", [0]),
        ("decimal + 1 = 2.5", [0]),
        ("decimal * small = 1.5", [0]),
        ("decimal < 1e400 and decimal > -1e999999999", [0, 1]),
        ("none = 1 or none = 'x' or none < date '2024-01-01' or none in (1)", []),
        ("none is null and list is not null", [0, 1]),
        ("nested.a.b = 'x'", [0]),
        ("größe > 1", [1]),
        ('"größe" = 1', [0]),
        ("small = 1.0 and small > 0.5 and small in (1, 1.5, 300)", [0]),
        ("small between -300 and 300", [0, 1]),
        ("small / 2 = 0.5", [0]),
        ("2 > 1 and small = 2 - 1", [0]),
    ],
)
def test_columns_of_every_type(condition: str, rows: list[int]) -> None:
    table = pool_table(random_rows(3))
    for name, column in _COLUMNS.items():
        table = table.append_column(name, column)
    if rows:
        source = open_source(table, id_column="id", condition=condition)
        assert read_range(source, 0, source.num_rows)[0] == rows
    else:
        assert True not in _truth(condition, **_COLUMNS)


@pytest.mark.parametrize(
    ("condition", "end"),
    [
        ("tz > date '2024-01-02'", "write timestamp '2024-01-02 00:00:00+00:00', with how far it is from UTC"),
        ("tz > '2024-01-02 12:00:00'", "write timestamp '2024-01-02 12:00:00+00:00', with how far it is from UTC"),
        ("tz in ('2024-01-02 12:00')", "write timestamp '2024-01-02 12:00+00:00', with how far it is from UTC"),
        ("ts > timestamp '2024-01-02 12:00:00+00:00'", "leave the zone out"),
        ("ts > tz", "compare each with a constant"),
        ("ts > 5", "write it like timestamp '2026-01-31 12:00:00'"),
        ("tz > 5", "write it like timestamp '2026-01-31 12:00:00+00:00'"),
        ("day = 5", "write it like date '2026-01-31'"),
        ("clock > '25:00'", "write it like time '12:30:00'"),
        ("flag = 1", "write true or false"),
        ("flag = 'true'", "write true or false"),
        ("view = 5", "write '5', in single quotes"),
        ("small = '5'", "write a number, without quotes"),
        ("small + view > 1", "compute with numbers"),
        ("uuid = 'x'", "write it like '123e4567-e89b-12d3-a456-426614174000'"),
        ("bytes = '0xzz'", "write it like '0xff01'"),
        ("list = 1", "name a column of text, numbers or times"),
        ("lower(small) = 'a'", "name a column of text"),
        ("nested.z = 1", "write a name with a point in it in double quotes"),
        ("flag and view", "compare it with something"),
        ("ts + 1 > ts", "move times by an interval, like interval '1' day"),
        ("small > 1 / 0", "divide by another number"),
        ("ts > interval '1' day", "write it like timestamp '2026-01-31 12:00:00'"),
        ("small = large", "compare values of one kind"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_says_what_would(condition: str, end: str) -> None:
    table = pool_table(random_rows(3))
    for name, column in _COLUMNS.items():
        table = table.append_column(name, column)
    with pytest.raises(ConfigError) as refused:
        open_source(table, id_column="id", condition=condition)
    assert str(refused.value).startswith(f"pool.filter={condition}")
    assert str(refused.value).split("; ")[-1] == end


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("small = null", "write small is null, or is not null"),
        ("tz > timestamptz '2024-01-02'", r"has no zone: write how far it is from UTC, as in '2024-01-02\+00:00'"),
        ("day = date '2024-01-02 12:00'", "is no date but a time: write timestamp '2024-01-02 12:00'"),
        ("day = date '2024-13-01'", "there is no such day"),
        ("ts > interval '1' month", "intervals are of seconds, minutes, hours, days or weeks"),
    ],
)
def test_constants_that_mean_nothing(condition: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_condition(condition)
