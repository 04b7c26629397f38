"""What callers may hand over besides paths: lists of texts, and how these are told from lists of paths."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.open import is_texts, path_texts, readable


def test_texts_become_a_column() -> None:
    table = readable(["a red fox", "", "two\nlines"], "pool")
    assert table.equals(pa.table({"text": ["a red fox", "", "two\nlines"]}))


def test_a_list_is_one_of_paths_where_the_first_may_be_one(tmp_path: Path) -> None:
    (tmp_path / "two words").mkdir()
    (tmp_path / "rows").mkdir()
    for paths in (["a.parquet", "b"], ["s3://bucket/x", "y"], ["data/*.jsonl"], [str(tmp_path / "two words")], []):
        assert not is_texts(paths)
        assert readable(paths, "pool") is paths
    for texts in (["Ends with a dot."], ["and/or is a phrase"], ["x" * 5000], ["nul\0"], ["word", "another"]):
        assert is_texts(texts)


@pytest.mark.parametrize(("wrong", "what"), [(7, "of type int"), (["a.parquet", 7], "a list that holds int")])
def test_what_may_be_handed_over_is_said_in_one_way(wrong: Any, what: str) -> None:
    with pytest.raises(
        InputError, match=f"the pool is {what}; hand over paths, .*a Hugging Face dataset, a list of texts"
    ):
        path_texts(wrong)
    with pytest.raises(InputError, match=r"pool is of type object; hand over paths, .*a list of texts"):
        readable(object(), "pool")
