"""Keys tell contents apart, whatever Arrow type holds them and wherever they stand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.embedding.content import keys_of, unusable

texts = st.lists(st.text(max_size=8), max_size=12)


def keys(values: Sequence[Any], kind: pa.DataType | None = None) -> list[tuple[int, int]]:
    return [tuple(key) for key in keys_of(pa.array(values, kind)).tolist()]


@given(texts)
def test_equal_texts_alone_have_equal_keys(values: list[str]) -> None:
    found = keys(values, pa.string())
    assert len(set(found)) == len(set(values))
    assert [found[values.index(value)] for value in values] == found


@given(texts, st.integers(0, 12), st.integers(0, 12))
def test_keys_do_not_depend_on_type_or_slice(values: list[str], start: int, length: int) -> None:
    expected = keys(values, pa.string())
    for kind in (pa.large_string(), pa.string_view()):
        assert keys(values, kind) == expected
    assert [tuple(k) for k in keys_of(pa.array(values, pa.string()).dictionary_encode()).tolist()] == expected
    piece = keys_of(pa.array(values, pa.string()).slice(start, length))
    assert [tuple(key) for key in piece.tolist()] == expected[start : start + length]


def test_a_text_is_not_its_bytes() -> None:
    assert keys(["a"], pa.string()) != keys([b"a"], pa.binary())
    assert keys([b"a"], pa.binary()) == keys([b"a"], pa.large_binary()) == keys([b"a"], pa.binary(1))


def test_an_image_is_its_bytes_wherever_it_lies() -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    first, moved, other = keys([{"bytes": b"a", "path": "x"}, {"bytes": b"a", "path": "y"}, {"bytes": b"b"}], kind)
    assert first == moved != other
    assert keys([b"a"], pa.binary()) == [first]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.list_(pa.float32()), [[1.0, 2.0], [1.0], [1.0, 2.0], []]),
        (pa.list_(pa.float32(), 2), [[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]]),
        (
            pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
            [[{"role": "u"}], [], [{"role": "u"}]],
        ),
        (pa.int64(), [1, 2, 1]),
    ],
)
def test_other_values_are_told_apart_too(kind: pa.DataType, values: list[Any]) -> None:
    found = keys(values, kind)
    assert found[0] == found[2]
    assert len(set(found)) == len({repr(value) for value in values})
    assert keys([None, *values, None], kind)[1:-1] == found


def test_nulls_and_blank_texts_hold_nothing() -> None:
    assert unusable(pa.array(["a", None, "", " \t\n", "b "])) == {1: "is null", 2: "is blank", 3: "is blank"}
    assert unusable(pa.array([b"a", None, b""])) == {1: "is null"}
    assert unusable(pa.array([[1.0], None])) == {1: "is null"}
    assert unusable(pa.array(["a", "", "a"]).dictionary_encode()) == {1: "is blank"}
    assert keys_of(pa.array([], pa.string())).shape == (0, 2)
    assert keys_of(pa.array(["a"])).dtype == np.uint64
