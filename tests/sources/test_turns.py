"""Prompts and completions in two columns are the one column `messages`, in files and in tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.open import open_raw_rows

Row = dict[str, Any]
TEXTS: list[Row] = [{"prompt": f"why {k}?", "completion": f"since {k}"} for k in range(5)]
TURNS: list[Row] = [
    {
        "prompt": [{"role": "system", "content": "be brief"}, {"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }
    for row in TEXTS
]


def messages(row: Row) -> list[Row]:
    if isinstance(row["prompt"], list):
        return [*row["prompt"], *row["completion"]]
    return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]


@pytest.mark.parametrize("rows", [TEXTS, TURNS])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "table"])
def test_a_pair_is_a_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Row], kind: str) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    path, table = tmp_path / f"rows.{kind}", pa.Table.from_pylist(rows)
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(table, path)
    source = open_raw_rows(table if kind == "table" else str(path), id_column="id", columns=["messages"])
    assert source.take(np.array([3, 1]), ["messages"]).column(0).to_pylist() == [messages(rows[k]) for k in (3, 1)]
    found = [row for _, batch in source.row_batches(0, 5, ["messages"]) for row in batch.column(0).to_pylist()]
    assert found == [messages(row) for row in rows]


def test_files_of_either_form_are_one_pool(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(TEXTS), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(TURNS), tmp_path / "b.parquet")
    pq.write_table(pa.table({"messages": [messages(row) for row in TEXTS], "prompt": [7] * 5}), tmp_path / "c.parquet")
    source = open_raw_rows(str(tmp_path), id_column="id", columns=["messages"])
    expected = [messages(row) for row in [*TEXTS, *TURNS, *TEXTS]]
    assert source.take(np.arange(15), ["messages"]).column(0).to_pylist() == expected


def test_half_a_pair_is_none_and_a_null_in_it_is_one(tmp_path: Path) -> None:
    rows = open_raw_rows(
        pa.table({"prompt": ["a", "b"], "completion": ["c", None]}), id_column="id", columns=["messages"]
    )
    assert rows.take(np.array([1]), ["messages"]).column(0).to_pylist() == [None]
    pq.write_table(pa.table({"prompt": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"prompt": [1], "completion": [2]}), tmp_path / "b.parquet")
    for name in ("a", "b"):
        with pytest.raises(InputError, match="no column 'messages'"):
            open_raw_rows(str(tmp_path / f"{name}.parquet"), id_column="id", columns=["messages"])
