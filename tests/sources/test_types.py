"""Types that mean the same are one; those that do not are told apart before a row is read."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.types import cast, common_type, plain, plain_type

CATEGORY = pa.dictionary(pa.int8(), pa.string())
UNITED: list[tuple[list[pa.DataType], pa.DataType]] = [
    ([pa.string(), CATEGORY], pa.string()),
    ([CATEGORY, pa.dictionary(pa.int32(), pa.large_string())], pa.large_string()),
    ([pa.string(), pa.string_view(), pa.large_string()], pa.large_string()),
    ([pa.int8(), pa.int64(), pa.uint16()], pa.int64()),
    ([pa.dictionary(pa.int8(), pa.int16()), pa.int32()], pa.int32()),
    ([pa.uint8(), pa.uint64()], pa.uint64()),
    ([pa.int32(), pa.float32()], pa.float64()),
    ([pa.float16(), pa.float32()], pa.float32()),
    ([pa.float32(), pa.float64()], pa.float64()),
    ([pa.int64(), pa.decimal128(10, 2)], pa.decimal128(21, 2)),
    ([pa.decimal128(10, 2), pa.decimal128(12, 4)], pa.decimal128(12, 4)),
    ([pa.float32(), pa.decimal128(10, 2)], pa.float64()),
    ([pa.timestamp("s"), pa.timestamp("us")], pa.timestamp("us")),
    ([pa.timestamp("us", "UTC"), pa.timestamp("ms", "Europe/Berlin")], pa.timestamp("us", "UTC")),
    ([pa.date32(), pa.timestamp("us")], pa.timestamp("us")),
    ([pa.timestamp("ns"), pa.date64()], pa.timestamp("ns")),
    ([pa.date32(), pa.date64()], pa.date64()),
    ([pa.null(), CATEGORY], pa.string()),
    ([pa.bool_(), pa.null()], pa.bool_()),
    ([pa.binary(), pa.binary_view(), pa.binary(4)], pa.binary()),
    ([pa.list_(pa.int32()), pa.large_list(pa.int64())], pa.large_list(pa.int64())),
    ([pa.list_(pa.float32(), 3), pa.list_(pa.float64())], pa.list_(pa.float64())),
    ([pa.list_(pa.string()), pa.list_(CATEGORY)], pa.list_(pa.string())),
    (
        [pa.struct([("a", pa.int8()), ("b", CATEGORY)]), pa.struct([("a", pa.int64()), ("c", pa.null())])],
        pa.struct([("a", pa.int64()), ("b", pa.string()), ("c", pa.null())]),
    ),
    ([pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int64())], pa.map_(pa.string(), pa.int64())),
    ([pa.json_(), pa.string()], pa.string()),
    ([pa.uuid(), pa.binary(16)], pa.binary(16)),
]


@pytest.mark.parametrize(("kinds", "expected"), UNITED, ids=str)
def test_types_that_one_type_holds(kinds: list[pa.DataType], expected: pa.DataType) -> None:
    found = common_type([(f"{k}.parquet", kind) for k, kind in enumerate(kinds)], "c", "pool.columns")
    assert found == expected
    for kind in kinds:
        assert cast(pa.nulls(2, kind), found).type == found


@pytest.mark.parametrize(
    "kind", [pa.string(), CATEGORY, pa.int8(), pa.uuid(), pa.binary(3), pa.list_(CATEGORY), pa.timestamp("ns", "UTC")]
)
def test_one_type_stays(kind: pa.DataType) -> None:
    found = common_type([("a", kind), ("b", kind)], "c", "pool.columns")
    assert found == (pa.list_(pa.string()) if pa.types.is_list(kind) else kind)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.string(), pa.int64()),
        (CATEGORY, pa.int64()),
        (pa.bool_(), pa.int8()),
        (pa.string(), pa.binary()),
        (pa.uuid(), pa.large_string()),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.date32(), pa.timestamp("us", "UTC")),
        (pa.list_(pa.int8()), pa.int8()),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.string())])),
    ],
)
def test_types_that_nothing_unites_name_both_files_and_the_option(one: pa.DataType, other: pa.DataType) -> None:
    found = [("z.parquet", pa.null()), ("a.parquet", one), ("b.parquet", one), ("c.parquet", other)]
    with pytest.raises(InputError) as refused:
        common_type(found, "source", "pool.columns")
    assert str(refused.value) == (
        f"file 'c.parquet': column 'source' is of type {other}, but in file 'a.parquet' of type {one}, and no type "
        "holds both; rewrite the files with one type, or leave the column out of pool.columns"
    )


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array(["a", "b", "a", None]).dictionary_encode(), ["a", "b", "a", None]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array([b"a", None], pa.binary_view()), [b"a", None]),
        (pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), [[1], None, [2, 3]]),
        (pa.array([[1], None, [2, 3]], pa.large_list_view(pa.int8())).slice(1), [None, [2, 3]]),
        (pa.array([Decimal(1)]).dictionary_encode(), [Decimal(1)]),
        (pa.array([b"x" * 16], pa.uuid()), [b"x" * 16]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_plain_arrays_have_the_same_values(array: pa.Array, values: list[Any]) -> None:
    for each in (array, pa.chunked_array([array])):
        found = plain(each)
        assert found.type == plain_type(array.type)
        assert found.to_pylist() == values
        found.validate(full=True)


def test_numbers_that_would_lose_something_are_no_cast() -> None:
    with pytest.raises(pa.ArrowInvalid):
        cast(pa.array([2**53 + 1]), pa.float64())
