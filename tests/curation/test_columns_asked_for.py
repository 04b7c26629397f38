"""Columns that options ask for: of types that differ, given by folders or a Dataset, or not there at all."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl import ConfigError, InputError, select
from ray_itl.core.posterior import Targets
from ray_itl.curation.planning import planned
from ray_itl.sources.open import open_source
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import StopAfter
from tests.helpers import Files, clustered
from tests.oracle import DenseLimits, DenseQuota, dense_greedy

TARGET = clustered(12, seed=2)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def change(files: Files, part: int, column: str, new: Callable[[pa.ChunkedArray], Any]) -> None:
    """Write a column of one of the files anew; new columns come last."""
    path = files.pool / f"part-{part}.parquet"
    table = pq.read_table(path)
    values = new(table.column(column) if column in table.column_names else table.column("id"))
    if column in table.column_names:
        table = table.set_column(table.column_names.index(column), column, values)
    else:
        table = table.append_column(column, values)
    pq.write_table(table, path, row_group_size=40)


def dense_ids(rows: np.ndarray, ids: np.ndarray, n: int, **options: Any) -> list[Any]:
    pool, target = (torch.from_numpy(part.astype(np.float64)) for part in (rows, TARGET))
    picks = dense_greedy("itl", pool, ids, Targets.uniform(target), n, 1.0, **options)
    return [ids[pick.index] for pick in picks]


CARRIED: dict[str, tuple[list[Callable[[pa.ChunkedArray], Any]], Callable[[int], Any]]] = {
    "text and categories": (
        [
            lambda ids: pa.array([f"s{i % 3}" for i in ids.to_pylist()]),
            lambda ids: pa.array([f"s{i % 3}" for i in ids.to_pylist()]).dictionary_encode(),
            lambda ids: pa.array([f"s{i % 3}" for i in ids.to_pylist()], pa.large_string()),
        ],
        lambda i: f"s{i % 3}",
    ),
    "numbers": (
        [
            lambda ids: pa.array([i % 100 for i in ids.to_pylist()], pa.int8()),
            lambda ids: pa.array([i % 100 for i in ids.to_pylist()], pa.uint16()),
            lambda ids: pa.array([float(i % 100) for i in ids.to_pylist()], pa.float32()),
        ],
        lambda i: i % 100,
    ),
    "nothing, then structs": (
        [
            lambda ids: pa.nulls(len(ids)),
            lambda ids: pa.array([{"a": i} for i in ids.to_pylist()], pa.struct([("a", pa.int16())])),
            lambda ids: pa.array([{"a": i, "b": "x"} for i in ids.to_pylist()]),
        ],
        lambda i: {"a": i},
    ),
    "times": (
        [
            lambda ids: pa.array(ids.to_pylist(), pa.timestamp("s", "UTC")),
            lambda ids: pa.array([i * 1000 for i in ids.to_pylist()], pa.timestamp("ms", "Europe/Berlin")),
            lambda ids: pa.array([i * 10**6 for i in ids.to_pylist()], pa.timestamp("us", "UTC")),
        ],
        lambda i: i,
    ),
}


@pytest.mark.parametrize("name", CARRIED)
def test_carried_columns_are_of_one_type(files: Files, name: str) -> None:
    columns, expected = CARRIED[name]
    for part, new in enumerate(columns):
        change(files, part, "extra", new)
    table = files.run(files.settings(n=30, pool={"columns": ["extra"]})).table
    for number, value, file in zip(*(table.column(c).to_pylist() for c in ("id", "extra", "file")), strict=True):
        if name == "nothing, then structs":
            assert value == (None if file == "part-0.parquet" else {"a": number, "b": value["b"]})
        elif name == "times":
            assert value.timestamp() == number
        else:
            assert value == expected(number)
    assert planned(files.settings("other", pool={"columns": ["extra"]})).num_rows == 300


def test_types_that_clash_are_refused_before_anything_is_loaded(files: Files) -> None:
    change(files, 0, "source", lambda ids: pa.nulls(len(ids)))
    change(files, 1, "source", lambda ids: pa.array(["web"] * len(ids)))
    change(files, 2, "source", lambda ids: ids)
    message = (
        r"file 'part-2.parquet': column 'source' is of type int64, but in file 'part-1.parquet' of type string, and no "
        r"type holds both; rewrite the files with one type, or leave the column out of {}"
    )
    settings = files.settings(pool={"columns": ["source"]})
    for refused in (planned, files.run):
        with pytest.raises(InputError, match=message.format(r"pool\.columns")):
            refused(settings)
    assert not (files.folder / "run").exists()
    quotas = files.settings(selection={"quotas": {"source": {"web": {"max": 1}}}})
    with pytest.raises(InputError, match=message.format(r"selection\.quotas")):
        planned(quotas)
    assert len(files.run(files.settings())) == 12


@pytest.mark.parametrize("dtypes", [("float16", "float32", "float64"), ("float64", "float16", "float32")])
@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_rows_of_several_float_types_are_those_stored(files: Files, dtypes: tuple[str, ...], storage: str) -> None:
    stored = []
    for part, dtype in enumerate(dtypes):
        rows = np.array(pq.read_table(files.pool / f"part-{part}.parquet").column("embedding").to_pylist()).astype(
            dtype
        )
        change(
            files,
            part,
            "embedding",
            lambda _, rows=rows: pa.array(list(rows), pa.list_(pa.from_numpy_dtype(rows.dtype))),
        )
        stored.append(rows.astype(np.float64))
    ids = files.table.column("id").to_numpy()
    options: dict[str, Any] = {"pool": {"dtype": "float64", "storage": storage}, "acquisition": {"noise_variance": 1.0}}
    options |= {"cluster": {"cache_dir": str(files.folder / "cache")}}
    found = files.run(files.settings(n=20, **options))
    assert found.ids == dense_ids(np.concatenate(stored), ids, 20)


MISSING: dict[str, dict[str, Any]] = {
    "pool.columns": {"pool": {"columns": ["txet"]}},
    "pool.id_column": {"pool": {"id_column": "ids"}},
    "pool.embedding_column": {"pool": {"embedding_column": "embeding"}},
    "pool.filter": {"pool": {"filter": "txet = 'a'"}},
    "selection.quotas": {"selection": {"quotas": {"wieght": {"1": {"max": 2}}}}},
    "selection.cost_column": {"selection": {"cost_column": "wieght", "budget": 9.0}},
    "target.weight_column": {"target": {"weight_column": "wieght"}},
    "target.task_column": {"target": {"task_column": "txet"}},
    "target.id_column": {"target": {"id_column": "ids"}},
    "target.embedding_column": {"target": {"embedding_column": "embeding"}},
    "known.embedding_column": {"known": {"path": "known.parquet", "embedding_column": "embeding"}},
    "avoid.embedding_column": {"avoid": {"path": "known.parquet", "embedding_column": "embeding"}},
    "evaluation.class_column": {"evaluation": {"class_column": "txet", "classes": ["a"]}},
}


@pytest.mark.parametrize("option", MISSING)
def test_a_missing_column_names_the_option_that_asks_for_it(files: Files, option: str) -> None:
    changes: dict[str, Any] = {
        group: {k: str(files.folder / v) if k == "path" else v for k, v in options.items()}
        for group, options in MISSING[option].items()
    }
    for refused in (planned, files.run):
        with pytest.raises(InputError, match=rf"no column '\w+' \(did you mean .*set {option} to one of them"):
            refused(files.settings(**changes))


PYTHON: dict[str, dict[str, Any]] = {
    "columns": {"columns": ["txet"]},
    "id_column": {"id_column": "ids"},
    "embedding_column": {"embedding_column": "embeding"},
    "filter": {"filter": "txet = 'a'"},
    "quotas": {"quotas": {"wieght": {"1": {"max": 2}}}},
    "cost_column": {"cost_column": "wieght", "budget": 9.0},
}


@pytest.mark.parametrize("argument", PYTHON)
def test_of_tables_and_datasets_too(files: Files, argument: str) -> None:
    pools = (
        files.table,
        pads.dataset(files.pool),
        pads.dataset(files.table),
        pads.dataset(files.pool).filter(pads.field("id") > 3),
    )
    for pool in pools:
        with pytest.raises(InputError, match=rf"no column '\w+' \(did you mean .*set \w+\.{argument} to one of them"):
            select(pool, TARGET, 5, **PYTHON[argument])


def test_an_array_has_none_of_the_columns_that_options_name() -> None:
    with pytest.raises(InputError, match=r"an array has no columns; .* \(selection\.cost_column, selection\.quotas\)"):
        select(
            clustered(20, seed=1), TARGET, 5, cost_column="a", quotas={"a": {"x": {"max": 1}}, "b": {"x": {"max": 1}}}
        )


def test_folders_are_columns_of_a_run_from_its_plan_to_its_check(files: Files) -> None:
    for part, lang in enumerate(("en", "de", "en")):
        folder = files.pool / f"lang={lang}" / f"cost={part + 1}"
        folder.mkdir(parents=True)
        (files.pool / f"part-{part}.parquet").rename(folder / "a.parquet")
    settings = files.settings(
        n=14,
        pool={"columns": ["lang", "cost"], "filter": "cost >= 1 and lang is not null"},
        selection={"quotas": {"lang": {"de": {"max": 3}, "en": {"min": 2}}}, "cost_column": "cost"},
        acquisition={"noise_variance": 1.0},
    )
    assert planned(settings).num_rows == 300
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(1))
    table = files.run(settings).table
    lang, cost = ["en"] * 100 + ["de"] * 100 + ["en"] * 100, np.repeat([1.0, 2.0, 3.0], 100)
    rows, ids = np.array(files.table.column("embedding").to_pylist(), np.float32), files.table.column("id").to_numpy()
    limits = DenseLimits(14, torch.from_numpy(cost), quotas=[DenseQuota(lang, {"en": 2}, {"de": 3})])
    assert table.column("id").to_pylist() == dense_ids(rows, ids, 14, limits=limits)
    places = [ids.tolist().index(number) for number in table.column("id").to_pylist()]
    assert table.column("lang").to_pylist() == [lang[place] for place in places]
    assert table.column("cost").to_pylist() == [cost[place] for place in places]
    assert verify(VerifySettings(FinishedRun(str(files.folder / "run")))).right


def test_the_schema_of_a_dataset_counts(files: Files) -> None:
    kinds = {"id": pa.string(), "embedding": pa.list_(pa.float16()), "text": pa.large_string(), "topic": pa.string()}
    dataset = pads.dataset(files.pool, schema=pa.schema(kinds))
    found = select(dataset, TARGET, 10, columns=["text", "topic"], noise_variance=1.0)
    table = dataset.to_table()
    rows = np.array(table.column("embedding").to_pylist()).astype(np.float16)
    ids = np.array(table.column("id").to_pylist(), dtype=np.dtypes.StringDType())
    assert found.ids == dense_ids(rows, ids, 10)
    assert found.table.column("text").to_pylist() == [f"text {number}" for number in found.ids]
    assert found.table.schema.field("topic").type == pa.string()
    assert found.table.column("topic").null_count == 10
    with pytest.raises(InputError, match=r"no column 'weight'; the columns are id, embedding, text, topic"):
        select(dataset, TARGET, 10, columns=["weight"])
    narrow = pads.dataset(files.pool, schema=pa.schema({**kinds, "id": pa.int8()}))
    with pytest.raises(
        InputError, match=r"file 'part-0.parquet': column 'id' is of type int64 and cannot be read as int8"
    ):
        select(narrow, TARGET, 10)
    again = pickle.loads(pickle.dumps(open_source(dataset, id_column="id", columns=["topic"])))
    assert again.take(np.arange(3), ["topic"]).column(0).null_count == 3


def test_a_dataset_whose_first_file_has_no_rows_is_of_the_types_of_the_others(files: Files) -> None:
    expected = select(files.pool, TARGET, 10).ids
    for number, names in enumerate((["id", "embedding", "text"], ["id", "embedding"])):
        pd.DataFrame({name: [] for name in names}).to_parquet(files.pool / "a.parquet")
        dataset = pads.dataset(files.pool)
        assert dataset.schema.field("id").type == pa.float64()
        assert select(dataset, TARGET, 10).ids == expected
        assert select(files.pool, TARGET, 10, columns=["text"]).ids == expected
        if number == 0:
            carried = select(dataset, TARGET, 10, columns=["text"]).table
            assert carried.column("text").to_pylist() == [f"text {number}" for number in expected]


def test_embeddings_that_a_file_of_a_dataset_lacks(files: Files) -> None:
    path = files.pool / "part-2.parquet"
    pq.write_table(pq.read_table(path).drop_columns("embedding"), path)
    with pytest.raises(InputError, match=r"file 'part-2.parquet' lacks the column 'embedding' of the Dataset"):
        select(pads.dataset(files.pool), TARGET, 10)


def test_numbers_that_float64_does_not_hold_are_told_with_the_option(files: Files) -> None:
    change(files, 0, "size", lambda ids: pa.array([2**60 + 1] * len(ids)))
    change(files, 1, "size", lambda ids: pa.array([0.5] * len(ids)))
    change(files, 2, "size", lambda ids: pa.array([0.5] * len(ids)))
    with pytest.raises(InputError, match=r"'part-0.parquet': column 'size' is of type int64 .* out of pool\.columns"):
        files.run(files.settings(n=200, pool={"columns": ["size"]}))


def test_decimals_are_costs_and_weights(files: Files) -> None:
    plain = files.settings(
        run=None, selection={"cost_column": "weight", "budget": 15.0}, target={"weight_column": "weight"}
    )
    expected = files.run(plain)
    for part in range(3):
        change(files, part, "weight", lambda old: old.cast(pa.decimal128(9, 2)).combine_chunks().dictionary_encode())
    target = pq.read_table(files.target)
    place = target.column_names.index("weight")
    pq.write_table(target.set_column(place, "weight", target.column("weight").cast(pa.decimal128(5, 1))), files.target)
    found = files.run(plain)
    assert found.ids == expected.ids
    assert found.table.column("cost").equals(expected.table.column("cost"))


def test_a_carried_column_called_cost(files: Files) -> None:
    for part in range(3):
        change(files, part, "cost", lambda ids: pa.array([1 + i % 3 for i in ids.to_pylist()], pa.int16()))
    table = files.run(files.settings(pool={"columns": ["cost"]}, selection={"cost_column": "cost"})).table
    assert table.column("cost").to_pylist() == [1 + number % 3 for number in table.column("id").to_pylist()]
    assert verify(VerifySettings(FinishedRun(str(files.folder / "run")))).right
    other = files.settings(pool={"columns": ["cost"]}, selection={"cost_column": "weight"})
    for refused in (planned, files.run):
        with pytest.raises(ConfigError, match=r"pool\.columns=\['cost'\] would overwrite"):
            refused(other)
