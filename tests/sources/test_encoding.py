"""Which column is to be embedded: the one that there is, the one with a usual name, or nobody guesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pyarrow as pa
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.encoding import MakesEncodings, RawColumn, may_be_raw

TEXT, NUMBER = pa.string(), pa.int64()
CHAT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


class NoEncoder:
    """Never asked: which column it is, is known without."""

    def on(self, column: str, kind: pa.DataType, sample: Callable[[], pa.Array]) -> Any:
        raise AssertionError((column, kind, sample))


def found(columns: dict[str, pa.DataType], name: str | None = None, like: str = "", taken: tuple[str, ...] = ()) -> Any:
    raw = RawColumn(cast(MakesEncodings, NoEncoder()), name, "pool.text_column", like)
    return raw.find(pa.schema(list(columns.items())), "embedding", taken, "a.parquet")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"note": TEXT, "label": NUMBER}, "note"),
        ({"text": TEXT, "title": TEXT}, "text"),
        ({"title": pa.large_string(), "content": pa.dictionary(pa.int8(), TEXT)}, "content"),
        ({"image": pa.struct([("bytes", pa.binary()), ("path", TEXT)]), "caption": TEXT}, "image"),
        ({"messages": CHAT, "source": TEXT}, "messages"),
        ({"picture": pa.large_binary(), "size": NUMBER}, "picture"),
        ({"text": TEXT, "embedding": pa.list_(pa.float32())}, None),
    ],
)
def test_one_column_is_meant(columns: dict[str, pa.DataType], expected: str | None) -> None:
    assert found(columns) == expected


def test_what_is_used_for_something_else_is_not_it() -> None:
    assert found({"id": TEXT, "note": TEXT}, taken=("id",)) == "note"
    assert found({"question": TEXT, "text": TEXT}, like="question") == "question"
    assert found({"text": TEXT, "embedding": pa.list_(pa.float32())}, name="text") == "text"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"title": TEXT, "note": TEXT}, "several columns could be embedded: title, note; set pool.text_column"),
        ({"text": TEXT, "content": TEXT, "x": TEXT}, "several columns could be embedded: text, content; set"),
        ({"label": NUMBER}, "no column of texts or images that could be embedded; the columns are label; set"),
        ({"tags": pa.list_(TEXT), "where": pa.struct([("x", NUMBER)])}, "no column of texts or images"),
    ],
)
def test_nobody_guesses(columns: dict[str, pa.DataType], words: str) -> None:
    with pytest.raises(InputError) as refusal:
        found(columns)
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("file 'a.parquet': ")


def test_types_that_can_be_embedded() -> None:
    assert all(may_be_raw(kind) for kind in (TEXT, pa.string_view(), pa.binary(), CHAT, pa.dictionary(pa.int8(), TEXT)))
    assert not any(may_be_raw(kind) for kind in (NUMBER, pa.list_(pa.float32()), pa.timestamp("s"), pa.bool_()))
