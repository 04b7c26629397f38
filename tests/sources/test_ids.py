import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.sources.schema import ids_from_arrow, ids_to_arrow, which_row


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


def test_unsigned_beyond_int64_names_the_row():
    largest = 2**63 - 1
    fine = pa.array([0, largest], pa.uint64())
    assert ids_from_arrow(fine, "key", "int", named).tolist() == [0, largest]
    with pytest.raises(InputError, match=r"row 51 .*'key' is 9223372036854775808, beyond .*as strings"):
        ids_from_arrow(pa.array([0, largest + 1], pa.uint64()), "key", "int", named)


def test_bytes_that_are_no_text_name_the_row():
    array = pa.array([b"a", b"\xff\xfe"]).view(pa.string())
    with pytest.raises(InputError, match=r"row 51 .*'key' is not valid UTF-8"):
        ids_from_arrow(array, "key", "string", named)
