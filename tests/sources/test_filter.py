import datetime
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.open import open_source
from ray_itl.sources.sql import parse_condition
from ray_itl.sources.views import FilteredSource
from tests.sources.helpers import pool_table, random_rows, read_range


def _table() -> pa.Table:
    day = datetime.date(2026, 1, 31)
    return pool_table(random_rows(4)).append_column("lang", pa.array(["en", "de", None, "EN"]).dictionary_encode()) \
        .append_column("tokens", pa.array([10, 2048, 7, None])) \
        .append_column("score", pa.array([0.5, None, 2.5, 1.0], pa.float32())) \
        .append_column("good", pa.array([True, False, None, True])) \
        .append_column("day", pa.array([day, None, day.replace(day=1), day])) \
        .append_column("time", pa.array([datetime.datetime(2026, 1, day, 12) for day in (1, 2, 3, 4)])) \
        .append_column("meta", pa.array([{"from": "web"}, {"from": "books"}, None, {"from": "web"}])) \
        .append_column("my col", pa.array([1, 2, 3, 4]))  # fmt: skip


def _kept(condition: str, table: pa.Table | None = None) -> list[int]:
    source = open_source(table or _table(), id_column="id", condition=condition)
    return read_range(source, 0, source.num_rows)[0]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("lang = 'en' and tokens < 2048", [0]),
        ("lang = 'en' or tokens = 2048", [0, 1]),
        ("lang <> 'en'", [1, 3]),
        ("not (lang = 'en')", [1, 3]),
        ("lang in ('en', 'fr')", [0]),
        ("lang not in ('en', 'fr')", [1, 3]),
        ("lower(lang) = 'en'", [0, 3]),
        ("upper(lang) = 'EN'", [0, 3]),
        ("lang like 'e%'", [0]),
        ("lang ilike 'e_'", [0, 3]),
        ("lang not like 'e%'", [1, 3]),
        ("not lang not like 'e%'", [0]),
        ("length(text) > 4 and lang is null", [2]),
        ("lang is not null", [0, 1, 3]),
        ("tokens between 8 and 2048", [0, 1]),
        ("tokens not between 8 and 2048", [2]),
        ("tokens > -1 and tokens >= 10", [0, 1]),
        ("-tokens <= -10", [0, 1]),
        ("score * 2 = 1 or score - 1 > 1.4 and score + 1 > 2", [0, 2]),
        ("tokens / 4 = 2.5", [0]),
        ("score = 2.5e0", [2]),
        ("score != 2.5", [0, 3]),
        ("good", [0, 3]),
        ("not good", [1]),
        ("good is true", [0, 3]),
        ("good is not true", [1, 2]),
        ("good is false", [1]),
        ("day = date '2026-01-31'", [0, 3]),
        ("day <= date '2026-01-30'", [2]),
        ("time > timestamp '2026-01-02 12:00:00'", [2, 3]),
        ("meta.from = 'web'", [0, 3]),
        ('"my col" > 2', [2, 3]),
        ("id > 0 and (id < 2 or id = 3)", [1, 3]),
    ],
)
def test_what_a_condition_keeps(condition: str, ids: list[int]) -> None:
    assert _kept(condition) == ids


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("tokens <", r"^pool\.filter=tokens < cannot be read: write it like"),
        ("tokens < 3; drop table pool", "cannot be read"),
        ("1 = 1", "no column is named in it"),
        ("entropy(tokens) < 3", r"ENTROPY\(tokens\) is not known here; write it like"),
        ("tokens in (select 1)", r"IN \(SELECT 1\) is not known here"),
        ("tokens in ()", "in needs a list of values"),
        ("lang like 'e!%' escape '!'", "is not known here"),
        ("tokens between symmetric 3 and 1", "is not known here"),
        ("cast(tokens as text) = '7'", r"CAST\(tokens AS TEXT\) is not known here"),
        ("meta[0] = 1", "is not known here"),
        ("lang collate x = 'en'", "is not known here"),
        ("tokens in (1, 'a')", r"a is text, and the values are of type int64; write a number, without quotes"),
        ("tokens in (-'x')", r"^pool\.filter=tokens in \(-'x'\): "),
        ("lang like 5", r"^pool\.filter=lang like 5: "),
        ("tokens is tokens", "is tokens is not known"),
        ("day > date 'tomorrow'", "'tomorrow' is no date or time"),
        ("lang = 5", r"does not fit the columns of the pool: in lang = 5, 5 is a number.*type string; write '5'"),
        ("lang", "it is of type string, not true or false"),
        ("(" * 3000 + "id = 1" + ")" * 3000, "nested too deeply"),
    ],
)
def test_conditions_that_cannot_be_used(condition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _kept(condition)


_WORDS = st.sampled_from(
    [
        *("<=", "!=", "and", "or", "not", "in", "between", "like", "is", "null", "true", "lower(", "date", "case"),
        *(
            "lang",
            "tokens",
            "good",
            "meta.from",
            '"my col"',
            "'en'",
            "'2026-01-31'",
            "7",
            "2.5",
            "1e400",
            *"()+-*/,=<>%",
        ),
    ]
)


@settings(max_examples=400)
@given(st.lists(_WORDS, max_size=9).map(" ".join) | st.text(max_size=20))
def test_any_words_are_a_condition_or_refused(condition: str) -> None:
    outcome = _kept_or_refusal(condition)
    assert "pool.filter" in outcome if isinstance(outcome, str) else set(outcome) <= {0, 1, 2, 3}


def _kept_or_refusal(condition: str) -> list[int] | str:
    try:
        return _kept(condition)
    except (ConfigError, InputError) as error:
        return str(error)


def test_columns_and_rows_that_are_not_there(tmp_path: Path) -> None:
    pq.write_table(_table(), tmp_path / "a.parquet")
    for pool in (_table(), str(tmp_path), pads.dataset(tmp_path), pads.dataset(_table())):
        with pytest.raises(
            InputError,
            match=r"no column 'lung' \(did you mean 'lang'\?\); the columns are id, .*; set pool\.filter to one",
        ):
            open_source(pool, id_column="id", condition="lung = 'en'")
        with pytest.raises(InputError, match="none of the pool's 4 rows meets it"):
            open_source(pool, id_column="id", condition="lang = 'fr'")
    with pytest.raises(ConfigError, match=r"does not fit the columns of file 'a\.parquet'"):
        open_source(str(tmp_path), id_column="id", condition="lang = 5")
    with pytest.raises(InputError, match="an array has no columns"):
        open_source(random_rows(3), condition="lang = 'fr'")


def test_columns_that_a_condition_reads() -> None:
    condition = parse_condition("meta.from = 'web' and \"my col\" = 2 or meta.to is null")
    assert condition.columns == ("meta", "my col")


@settings(max_examples=60)
@given(st.data())
def test_filtered_files_read_as_their_rows_alone(data):
    """Whatever is read of some rows of random files is what a table of these rows alone gives."""
    counts = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=4), "rows of each file")
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=sum(counts), max_size=sum(counts)).filter(any)))
    table = pool_table(random_rows(len(kept))).append_column("kept", pa.array(kept))
    starts = np.concatenate([[0], np.cumsum(counts)])
    with tempfile.TemporaryDirectory() as folder:
        for number, (first, count) in enumerate(zip(starts, counts, strict=False)):
            path = Path(folder, f"{number}.parquet")
            pq.write_table(table.slice(first, count), path, row_group_size=data.draw(st.integers(1, 6)))
        files: Any = pickle.loads(pickle.dumps(open_source(folder, id_column="id", condition="kept")))
        memory: Any = open_source(table, id_column="id", condition="kept")
        whole = open_source(table.filter(pa.array(kept)), id_column="id")
        n = whole.num_rows
        start = data.draw(st.integers(0, n))
        stop = data.draw(st.integers(start, n))
        positions = np.array(data.draw(st.lists(st.integers(0, n - 1))), np.int64)
        rows = np.flatnonzero(kept)
        for source in (files, memory):
            assert source.num_rows == n
            for one, other in zip(read_range(source, start, stop), read_range(whole, start, stop), strict=True):
                np.testing.assert_array_equal(one, other)
            assert source.take(positions, ["text"]) == whole.take(positions, ["text"])
            np.testing.assert_array_equal(source.embeddings(positions), whole.embeddings(positions))
            ascending = np.unique(positions)
            got = [row for _, batch in source.row_batches_at(ascending, ["id"]) for row in batch.column(0).to_pylist()]
            assert got == [row for batch, _ in source.batches_at(ascending) for row in batch.tolist()] \
                == rows[ascending].tolist()  # fmt: skip
            columns = [batch.column(0).to_pylist() for _, batch in source.row_batches(start, stop, ["id"])]
            assert [row for batch in columns for row in batch] == rows[start:stop].tolist()
        np.testing.assert_array_equal(memory.locate(positions)[1], rows[positions])
        owner = np.searchsorted(starts, rows[positions], side="right") - 1
        names, inside = files.locate(positions)
        assert names == [f"{number}.parquet" for number in owner]
        np.testing.assert_array_equal(inside, rows[positions] - starts[owner])
        if isinstance(files, FilteredSource):  # else every row is kept
            chosen = data.draw(st.lists(st.sampled_from(files.manifest.files), unique=True))
            ranges = [(starts[int(file.path[0])], starts[int(file.path[0]) + 1]) for file in chosen]
            expected = [row for first, last in ranges for row in rows if first <= row < last]
            some = files.only(chosen)
            assert read_range(some, 0, some.num_rows)[0] == expected
            assert [files.position(row) for row in range(len(kept))] == [
                int(np.count_nonzero(kept[:row])) if kept[row] else None for row in range(len(kept))
            ]


def test_a_bad_row_is_named_by_where_it_stands(tmp_path: Path) -> None:
    rows = random_rows(6)
    rows[4, 1] = np.nan
    table = pool_table(rows)
    pq.write_table(table, tmp_path / "a.parquet")
    for pool, where in ((table, ""), (str(tmp_path), r"file 'a\.parquet', ")):
        source = open_source(pool, id_column="id", condition="id >= 3")
        with pytest.raises(InputError, match=rf"^{where}row 4 \(counting from 0\)"):
            read_range(source, 0, 3)


def test_a_filter_is_part_of_what_a_pool_is(tmp_path: Path) -> None:
    pq.write_table(_table(), tmp_path / "a.parquet")
    conditions = [None, "id > 0", "id > 1", "id > -1"]
    sources: list[Any] = [open_source(str(tmp_path), id_column="id", condition=each) for each in conditions]
    assert len({source.manifest.fingerprint for source in sources}) == 4
