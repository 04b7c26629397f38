"""Values are compared in the column's type, and read and shown as people write them."""

from __future__ import annotations

import datetime
import pickle
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.column_values import values_of
from ray_itl.sources.costs_and_groups import GroupColumn
from ray_itl.sources.moments import read_moment
from ray_itl.sources.open import open_source
from ray_itl.sources.values import UnfitValueError, comparable_type, distinct, keys_of, labels_of
from ray_itl.sources.written import keys_for, nearest_words
from tests.sources.helpers import random_rows

_UTC, _DAY = datetime.UTC, datetime.datetime(2024, 1, 2)
_UUID = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")

SAME: list[tuple[Any, pa.DataType, Any, str]] = [
    # a value as it is written, the column's type, the value in it, and how that is shown
    ("true", pa.bool_(), True, "true"),
    ("No", pa.bool_(), False, "false"),
    (1.0, pa.int8(), 1, "1"),
    ("1e3", pa.uint64(), 1000, "1000"),
    (2**64 - 1, pa.uint64(), 2**64 - 1, "18446744073709551615"),
    (1, pa.float64(), 1.0, "1"),
    (0.1, pa.float32(), 0.1, "0.1"),
    (0.1, pa.float16(), np.float16(0.1), "0.1"),
    (-0.0, pa.float64(), 0.0, "0"),
    ("nan", pa.float64(), float("nan"), "nan"),
    (0.5, pa.decimal128(6, 2), Decimal("0.50"), "0.50"),
    ("0.500", pa.decimal128(6, 2), Decimal("0.50"), "0.50"),
    (3, pa.decimal256(50, 1), Decimal("3.0"), "3.0"),
    ("größe", pa.large_string(), "größe", "größe"),
    (2024, pa.string(), "2024", "2024"),
    ("null", pa.string(), "null", "'null'"),
    ("x", pa.string_view(), "x", "x"),
    (b"\xff", pa.binary(), b"\xff", "0xff"),
    ("ff01", pa.binary(2), b"\xff\x01", "0xff01"),
    ("0xff", pa.binary_view(), b"\xff", "0xff"),
    ("en", pa.binary(), b"en", "en"),
    (str(_UUID), pa.uuid(), _UUID.bytes, str(_UUID)),
    (str(_UUID), pa.binary(16), _UUID.bytes, f"0x{_UUID.hex}"),
    ("2024-01-02", pa.date32(), _DAY.date(), "2024-01-02"),
    ("2024-01-02T00:00:00", pa.date64(), _DAY.date(), "2024-01-02"),
    ("2024-01-02", pa.timestamp("s"), _DAY, "2024-01-02 00:00:00"),
    ("2024-01-02 00:00:00.0000000", pa.timestamp("ns"), _DAY, "2024-01-02 00:00:00.000000000"),
    ("2024-01-02T01:00+01:00", pa.timestamp("s", "UTC"), _DAY, "2024-01-02 00:00:00Z"),
    ("2024-01-02 00:00Z", pa.timestamp("s", "Europe/Berlin"), _DAY, "2024-01-02 00:00:00Z"),
    ("12:30", pa.time32("s"), datetime.time(12, 30), "12:30:00"),
    (None, pa.int64(), None, "null"),
]


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == pa.float16():
        return pa.array(np.array(values, np.float16))
    return pa.array([None if v is None else v for v in values], kind)


@pytest.mark.parametrize(("written", "kind", "value", "shown"), SAME, ids=str)
def test_a_value_as_it_is_written_is_that_of_the_column(
    written: Any, kind: pa.DataType, value: Any, shown: str
) -> None:
    comparable = comparable_type(kind)
    assert comparable is not None
    (key,) = set(keys_of(_array([value], kind), comparable))
    assert key in keys_for(written, comparable)
    assert labels_of([key], comparable) == [shown]
    encoded = _array([value], kind)
    if not isinstance(kind, pa.BaseExtensionType) and kind != pa.float16() and not pa.types.is_string_view(kind):
        encoded = encoded.dictionary_encode()
        assert keys_of(encoded, comparable) == [key]
        ends = pc.run_end_encode(_array([value, value], kind)) if kind in (pa.bool_(), pa.int8(), pa.date32()) else None
        assert ends is None or keys_of(ends, comparable) == [key, key]


UNFIT: list[tuple[Any, pa.DataType, str]] = [
    ("abc", pa.int64(), "no number"),
    (1.5, pa.int64(), "no whole number"),
    (300, pa.int8(), "not from -128 to 127"),
    (-1, pa.uint64(), "not from 0 to"),
    (True, pa.int64(), "no numbers"),
    ("1e99999", pa.int64(), "no number"),
    (2**53 + 1, pa.float64(), "the nearest number there is 9007199254740992"),
    (1e39, pa.float32(), "too large"),
    (0.505, pa.decimal128(6, 2), "more than 2 digits"),
    (10_000, pa.decimal128(6, 2), "too large"),
    (1, pa.bool_(), "neither true nor false"),
    (False, pa.string(), "YAML reads no, off, on and yes"),
    (b"en", pa.string(), "bytes are no text"),
    (1, pa.binary(), "no bytes"),
    ("x", pa.uuid(), "no UUID"),
    (20240102, pa.date32(), "no date"),
    ("2024-02-30", pa.date32(), "no such day"),
    ("2024-01-02 12:00", pa.date32(), "more precise"),
    ("2024-01-02 00:00:00.5", pa.timestamp("s"), "more precise"),
    ("2024-01-02", pa.timestamp("s", "UTC"), "no zone"),
    ("2024-01-02Z", pa.timestamp("s"), "has a zone"),
    ("2500-01-01", pa.timestamp("ns"), "beyond the times"),
    ("25:00", pa.time32("s"), "no such time"),
    ("x", pa.null(), "missing values alone"),
]


@pytest.mark.parametrize(("written", "kind", "why"), UNFIT, ids=str)
def test_a_value_that_the_column_cannot_hold(written: Any, kind: pa.DataType, why: str) -> None:
    with pytest.raises(UnfitValueError, match=why):
        keys_for(written, kind)


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.sampled_from(SAME + UNFIT))
def test_any_value_is_read_or_refused(value: Any, case: tuple[Any, ...]) -> None:
    kind = comparable_type(case[1])
    assert kind is not None
    try:
        keys = keys_for(value, kind)
    except UnfitValueError:
        return
    assert len(labels_of(keys, kind)) == len(keys) > 0
    assert len({*keys}) == len(keys)


@given(
    st.datetimes(timezones=st.sampled_from([None, _UTC, datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))]))
)
def test_moments_are_those_of_the_calendar(time: datetime.datetime) -> None:
    found = read_moment(time.isoformat())
    zero = datetime.datetime(1970, 1, 1, tzinfo=time.tzinfo and _UTC)
    since = time - zero
    assert found.zoned == (time.tzinfo is not None)
    assert found.nanoseconds == ((since.days * 86_400 + since.seconds) * 10**6 + since.microseconds) * 1000


@pytest.mark.parametrize("kind", [pa.list_(pa.int8()), pa.struct([("a", pa.int8())]), pa.map_(pa.string(), pa.int8())])
def test_values_that_cannot_be_told_apart(kind: pa.DataType) -> None:
    assert comparable_type(kind) is None
    source = open_source(_pool(pa.nulls(2, kind)), id_column="id")
    with pytest.raises(ConfigError, match=r"selection\.quotas: column c is of type .* cannot be told apart: name one"):
        values_of(source, ["c"], "selection.quotas")


def _pool(*columns: pa.Array) -> pa.Table:
    column = pa.chunked_array(columns)
    return pa.table({"id": np.arange(len(column)), "embedding": list(random_rows(len(column))), "c": column})


def test_missing_values_and_the_texts_that_look_like_them_are_told_apart() -> None:
    (found,) = values_of(open_source(_pool(pa.array(["null", None, "(other)", "x"])), id_column="id"), ["c"], "o")
    assert found.labels() == {"'null'": "null", "(other)": "(other)", "null": None, "x": "x"}
    column = GroupColumn("c", found.kind, (None, "null"), ("null", "'null'", "(other)"))
    rows = pa.array(["(other)", None, "null", "x", None])
    for each in (column, pickle.loads(pickle.dumps(column))):
        assert each.codes(rows).tolist() == each.codes(rows.dictionary_encode()).tolist() == [2, 0, 1, 2, 0]
    assert column.codes(rows.slice(0, 0)).tolist() == []


def test_nan_is_one_value_in_every_process() -> None:
    column = GroupColumn("c", pa.float32(), (*keys_for("nan", pa.float32()), 0.0), ("nan", "0"))
    rows = pa.array([float("nan"), -0.0, None, -float("nan")], pa.float32())
    assert pickle.loads(pickle.dumps(column)).codes(rows).tolist() == [0, 1, -1, 0]
    assert set(distinct(rows, pa.float32())[0]) == {"nan", 0.0, None}


def test_text_that_is_no_utf8_is_one_line() -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")])
    with pytest.raises(InputError, match="column 'c': a text is not valid UTF-8; mend it"):
        values_of(open_source(_pool(bad), id_column="id"), ["c"], "o")


def test_the_nearest_value_is_offered() -> None:
    assert nearest_words("Boot ", ["boot", "shoe"]) == "did you mean 'boot'? there are boot, shoe"
    assert nearest_words("x", [str(i) for i in range(12)]) == "there are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
