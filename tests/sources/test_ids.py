import re
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.sources.ids import check_id_type, common_kind, fits_int64, given_id, ids_from_arrow, ids_to_arrow
from ray_itl.sources.schema import which_row


def named(row: int) -> str:
    return which_row("a.parquet", 50 + row)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_integers_round_trip(values):
    ids = ids_from_arrow(pa.array(values, pa.int64()), "id", "int", named)
    assert ids.dtype == np.int64
    assert ids_to_arrow(ids).equals(pa.array(values, pa.int64()))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_strings_round_trip(values):
    ids = ids_from_arrow(pa.array(values, pa.string()), "id", "string", named)
    assert ids.dtype == np.dtypes.StringDType()
    assert ids_to_arrow(ids).equals(pa.array(values, pa.string()))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_every_kind_of_string_and_slices(kind):
    array = pa.array(["skipped", "a", "b" * 30]).cast(kind).slice(1)
    assert ids_from_arrow(array, "id", "string", named).tolist() == ["a", "b" * 30]


@pytest.mark.parametrize("values", [[5, 7, 5], ["x", "y", "x"]])
def test_dictionary_is_decoded(values):
    kind = "int" if isinstance(values[0], int) else "string"
    array = pa.array([values[1], *values]).dictionary_encode().slice(1)
    assert ids_from_arrow(array, "id", kind, named).tolist() == values


@pytest.mark.parametrize("values", [[1, 2, None], ["a", "b", None]])
def test_null_names_the_row(values):
    kind = "int" if values[0] == 1 else "string"
    for array in (pa.array(values), pa.array(values).dictionary_encode()):
        with pytest.raises(InputError, match=r"file 'a.parquet', row 52 .*id column 'key' is null; give every row"):
            ids_from_arrow(array, "key", kind, named)


def test_unsigned_beyond_int64_names_the_row_where_others_are_signed():
    largest = 2**63 - 1
    fine = pa.array([0, largest], pa.uint64())
    assert ids_from_arrow(fine, "key", "int", named).tolist() == [0, largest]
    with pytest.raises(InputError, match=r"row 51 .*'key' is 9223372036854775808, beyond .*as strings"):
        ids_from_arrow(pa.array([0, largest + 1], pa.uint64()), "key", "int", named)


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_unsigned_round_trip(values):
    ids = ids_from_arrow(pa.array(values, pa.uint64()), "id", "uint", named)
    assert ids.dtype == np.uint64
    assert ids_to_arrow(ids).equals(pa.array(values, pa.uint64()))


@given(st.lists(st.uuids(), min_size=1))
def test_uuids_are_text_as_python_writes_it(values):
    array = pa.array([value.bytes for value in [values[0], *values]], pa.uuid()).slice(1)
    assert ids_from_arrow(array, "id", "string", named).tolist() == [str(value) for value in values]


@given(st.lists(st.binary(max_size=30)))
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_bytes_are_hex(kind, values):
    array = pa.array([b"skipped", *values], kind).slice(1)
    assert ids_from_arrow(array, "id", "string", named).tolist() == [value.hex() for value in values]


def test_bytes_of_one_length_and_dictionaries_of_bytes():
    values = [bytes(range(k, k + 16)) for k in range(3)]
    for array in (pa.array(values, pa.binary(16)), pa.array(values, pa.binary()).dictionary_encode()):
        assert ids_from_arrow(array, "id", "string", named).tolist() == [value.hex() for value in values]


@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1)))
def test_decimals_without_fraction_are_numbers_or_their_digits(values):
    array = pa.array([Decimal(value) for value in values], pa.decimal128(38, 0))
    assert ids_from_arrow(array, "id", "string", named).tolist() == [str(value) for value in values]
    small = all(-(2**63) <= value < 2**63 for value in values)
    assert fits_int64(array) == small
    kind = common_kind({check_id_type(array.type, "id", "")}, lambda: fits_int64(array))
    assert kind == ("int" if small else "string")
    assert ids_from_arrow(array, "id", kind, named).tolist() == (values if small else list(map(str, values)))


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, "int", 3),
        (Decimal(3), "int", 3),
        (2**64 - 1, "uint", 2**64 - 1),
        (2**63, "int", None),
        (-1, "uint", None),
        (True, "int", None),
        ("3", "int", None),
        (Decimal("2.5"), "int", None),
        (Decimal(10**30), "string", "1" + "0" * 30),
        (uuid.UUID(int=5), "string", "00000000-0000-0000-0000-000000000005"),
        (b"\x0f\xff", "string", "0fff"),
        ("a", "string", "a"),
        (3, "string", None),
        (None, "string", None),
    ],
)
def test_ids_that_callers_hold(value, kind, expected):
    assert given_id(value, kind) == expected


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        (pa.int8(), "int"),
        (pa.uint32(), "int"),
        (pa.uint64(), "uint"),
        (pa.dictionary(pa.int32(), pa.int64()), "int"),
        (pa.decimal128(18, 0), "int"),
        (pa.decimal128(19, 0), "decimal"),
        (pa.decimal256(60, 0), "decimal"),
        (pa.string(), "text"),
        (pa.large_string(), "text"),
        (pa.string_view(), "text"),
        (pa.dictionary(pa.int32(), pa.string()), "text"),
        (pa.json_(), "text"),
        (pa.uuid(), "uuid"),
        (pa.binary(), "bytes"),
        (pa.binary_view(), "bytes"),
        (pa.binary(16), "bytes"),
    ],
    ids=str,
)
def test_forms_of_ids(kind, form):
    assert check_id_type(kind, "id", "") == form


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.decimal128(9, 2), pa.bool_(), pa.date32(), pa.list_(pa.int8())], ids=str
)
def test_types_that_are_no_id(kind):
    message = rf"file 'a.parquet': id column 'key' has type {re.escape(str(kind))}, .*cast the column .*in pool.id"
    with pytest.raises(InputError, match=message):
        check_id_type(kind, "key", "a.parquet", "pool.id")


def test_bytes_that_are_no_text_name_the_row():
    array = pa.array([b"a", b"\xff\xfe"]).view(pa.string())
    with pytest.raises(InputError, match=r"row 51 .*'key' is not valid UTF-8"):
        ids_from_arrow(array, "key", "string", named)
