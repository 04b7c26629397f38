"""JSON lines and CSV as pools: the rows, types and ids of the same rows in Parquet, parsed once, refused by row."""

import bz2
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import InputError, UnfinishedFileError
from ray_itl.sources.open import open_raw_rows, open_source
from ray_itl.sources.text import delimited, json_lines
from tests.sources.helpers import random_rows

NUM_ROWS, DIM = 57, 3


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(json_lines, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(delimited, "_BLOCK_BYTES", 1000)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def some_rows() -> list[dict[str, Any]]:
    vectors = random_rows(NUM_ROWS, DIM).tolist()
    return [
        {"id": i, "embedding": vector, "text": f"säule {i}\n", "when": "2020-01-01"} for i, vector in enumerate(vectors)
    ]


def compressed(kind: str, data: bytes) -> bytes:
    if kind == ".zst":
        return pa.compress(data, codec="zstd", asbytes=True)
    return {".gz": gzip.compress, ".bz2": bz2.compress, "": bytes}[kind](data)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.NDJSON", "rows.json"])
def test_json_lines_are_the_rows_that_they_say(tmp_path: Path, name: str, suffix: str) -> None:
    rows = some_rows()
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(compressed(suffix, data))
    source = open_source(str(path), id_column="id", columns=["text", "when"])
    assert (source.num_rows, source.dim, source.id_kind) == (NUM_ROWS, DIM, "int")
    ids, found = map(np.concatenate, zip(*source.batches(0, NUM_ROWS), strict=True))
    assert ids.tolist() == [row["id"] for row in rows]
    assert found.tolist() == [row["embedding"] for row in rows]
    taken = source.take(np.array([56, 0, 7]), ["text", "when"])
    assert taken.to_pylist() == [{k: rows[i][k] for k in ("text", "when")} for i in (56, 0, 7)]
    assert source.locate(np.array([7])) == ([path.name], np.array([7]))


def test_an_array_of_objects_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    rows = some_rows()
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "rows.jsonl").write_text("\ufeff\n\n" + "\n\n".join(json.dumps(row) for row in rows))
    for name in ("rows.json", "rows.jsonl"):
        source = open_raw_rows(str(tmp_path / name), id_column="id", columns=["text"])
        assert source.take(np.arange(NUM_ROWS), ["text"]).column(0).to_pylist() == [row["text"] for row in rows]


def test_types_are_those_of_all_rows_whatever_the_first_ones_have(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": i, "n": 1, "pad": "x" * 50} for i in range(40)]
    rows += [{"id": 40, "n": 1.5, "new": True, "chat": [{"role": "user", "content": "?"}]}]
    rows += [{"id": 41, "n": None, "chat": [{"role": "user", "name": "a"}]}]
    source = open_raw_rows(str(write(tmp_path / "rows.jsonl", rows)), id_column="id", columns=["n", "new", "chat"])
    found = source.take(np.array([0, 40, 41]), ["n", "new", "chat"]).to_pylist()
    assert found[0] == {"n": 1.0, "new": None, "chat": None}
    assert found[1] == {"n": 1.5, "new": True, "chat": [{"role": "user", "content": "?", "name": None}]}
    assert found[2]["chat"] == [{"role": "user", "content": None, "name": "a"}]


@pytest.mark.parametrize(("delimiter", "name"), [(",", "rows.csv"), ("\t", "rows.tsv")])
def test_csv_has_the_narrowest_types_that_fit_all_rows(tmp_path: Path, delimiter: str, name: str) -> None:
    lines = [["id", "whole", "number", "late", "text", "none"]]
    lines += [
        [str(i), str(i), "1" if i < 50 else "1.5", "" if i < 50 else "7", f'"a{delimiter} ""b""\nc"', ""]
        for i in range(60)
    ]
    (tmp_path / name).write_text("\n".join(delimiter.join(line) for line in lines) + "\n")
    columns = ["whole", "number", "late", "text", "none"]
    source = open_raw_rows(str(tmp_path / name), id_column="id", columns=columns)
    table = source.take(np.array([0, 59]), columns)
    assert table.to_pylist() == [
        {"whole": 0, "number": 1.0, "late": None, "text": f'a{delimiter} "b"\nc', "none": ""},
        {"whole": 59, "number": 1.5, "late": 7, "text": f'a{delimiter} "b"\nc', "none": ""},
    ]
    assert (source.num_rows, source.id_kind) == (60, "int")


def test_a_column_of_numbers_with_a_word_in_it_is_text(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,value\n" + "".join(f"{i},{i if i < 300 else 'many'}\n" for i in range(301)))
    source = open_raw_rows(str(tmp_path / "rows.csv"), id_column="id", columns=["value"])
    assert source.take(np.array([0, 300]), ["value"]).column(0).to_pylist() == ["0", "many"]


BAD: dict[str, tuple[str, str, str]] = {
    "no json": ("rows.jsonl", '{"id": 1}\n{"id": 2,}\n', r"file 'rows.jsonl' row 1: .*\{\"id\": 2,\}.* is no JSON"),
    "no object": ("rows.jsonl", '{"id": 1}\n7\n', r"row 1: '7' is no JSON object"),
    "kinds": ("rows.jsonl", '{"id": 1}\n{"id": "a"}\n', r"row 1: .*id.*values of one kind"),
    "late kinds": (
        "rows.jsonl",
        '{"id": 5}\n' * 100 + '{"id": "a"}\n',
        r"column 'id' is int64 before row 100 and string after it",
    ),
    "empty": ("rows.jsonl", "\n\n", "has no rows"),
    "no array": ("rows.json", "[1, 2", "is no JSON"),
    "empty array": ("rows.json", "[]", "has no rows"),
    "ragged": ("rows.csv", "id,a\n1,2\n3\n", r"file 'rows.csv' cannot be read as CSV: .*Expected 2 columns, got 1"),
    "names": ("rows.csv", "id,a,a\n1,2,3\n", r"names the column 'a' twice"),
    "header": ("rows.csv", "id,a\n", "has no rows"),
    "no gzip": ("rows.jsonl.gz", '{"id": 1}\n', r"file 'rows.jsonl.gz' cannot be read"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_named_by_file_and_row_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    name, text, words = BAD[what]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        open_raw_rows(str(tmp_path / name), id_column="id", columns=[])
    assert not [path for path in (tmp_path / "cache" / "text").iterdir() if path.is_dir()]


def test_a_last_line_without_an_end_may_still_be_being_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id": 2')
    with pytest.raises(UnfinishedFileError, match=r"row 1: .* is no JSON.*pool\.settle_s"):
        open_raw_rows(str(path), id_column="id")
    path.write_text('{"id": 1\n{"id": 2}')
    with pytest.raises(InputError, match=r"row 0: .* is no JSON") as caught:
        open_raw_rows(str(path), id_column="id")
    assert not isinstance(caught.value, UnfinishedFileError)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    true: Callable[..., Any] = json_lines.json_batches
    monkeypatch.setattr("ray_itl.sources.text.twin.json_batches", lambda f, name: told.append(name) or true(f, name))
    return told


def test_a_file_is_parsed_once_and_anew_when_it_changes(tmp_path: Path, parsed: list[str]) -> None:
    path = write(tmp_path / "pool" / "rows.jsonl", some_rows())

    def fingerprint() -> str:
        return open_source(str(path.parent), id_column="id").manifest.fingerprint  # type: ignore[attr-defined]

    first = fingerprint()
    assert fingerprint() == first
    assert parsed == ["rows.jsonl"]
    os.utime(path, (1, 1))
    assert fingerprint() == first
    rows = some_rows()
    rows[30]["text"] = "säule 31\n"
    write(path, rows)
    assert fingerprint() != first
    assert parsed == ["rows.jsonl"] * 3


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_it_is_told_how_far_parsing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr("ray_itl.sources.text.twin._BUFFER_BYTES", 500)
    data = compressed(suffix, b"".join(json.dumps(row).encode() + b"\n" for row in some_rows()))
    (path := tmp_path / f"rows.jsonl{suffix}").write_bytes(data)
    told: list[tuple[str, int, int]] = []
    open_raw_rows(str(path), id_column="id", on_text=lambda *facts: told.append(facts))
    assert {(name, total) for name, _, total in told} == {(path.name, 2 * len(data))}
    done = [each for _, each, _ in told]
    assert done == sorted(done)
    assert done[0] < len(data) / 2 or suffix
    assert done[-1] == 2 * len(data)
    told.clear()
    open_raw_rows(str(path), id_column="id", on_text=lambda *facts: told.append(facts))
    assert not told


def test_a_file_that_changes_after_the_pool_was_planned_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", some_rows())
    source = open_source(str(path), id_column="id")
    rows = some_rows()
    rows[0]["embedding"][0] += 1
    write(path, rows)
    with pytest.raises(InputError, match=r"rows\.jsonl.* was replaced"):
        list(source.batches(0, NUM_ROWS))


def test_a_folder_of_several_kinds(tmp_path: Path) -> None:
    rows = some_rows()
    write(tmp_path / "pool" / "a.jsonl", rows[:20])
    write(tmp_path / "pool" / "b.jsonl", rows[20:])
    (tmp_path / "pool" / "notes.json").write_text("{}")
    source = open_source(str(tmp_path / "pool"), id_column="id")
    assert source.num_rows == NUM_ROWS
    pq_rows = pa.Table.from_pylist(rows[:5])
    pq.write_table(pq_rows, tmp_path / "pool" / "c.parquet")
    assert open_source(str(tmp_path / "pool"), id_column="id").num_rows == 5  # beside Parquet, text is not the pool


@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.integers(-(2**62), 2**62), "t": st.text(max_size=30), "f": st.floats(allow_nan=False)},
            optional={"b": st.booleans(), "l": st.lists(st.integers(0, 9), max_size=3)},
        ),
        min_size=1,
        max_size=40,
    )
)
def test_any_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = write(tmp_path_factory.mktemp("pool") / "rows.jsonl", rows)
    schema, batches = json_lines.json_batches(lambda: path.open("rb"), "rows.jsonl")
    found = pa.Table.from_batches(batches, schema).to_pylist()
    expected = [{name: row.get(name) for name in schema.names} for row in rows]
    assert found == expected
