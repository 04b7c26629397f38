"""Many queries from a loaded pool: a table in which each has what its own selection would have."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

import ray_itl
from ray_itl.core.many import selector
from ray_itl.errors import ConfigError, InputError
from tests.helpers import clustered
from tests.loaded.cases import ROWS, SOME_IDS, TABLE, TARGET

QUERIES = {f"prompt {number}": clustered(number % 3 + 1, 50 + number) for number in range(5)}
OPTIONS: tuple[dict[str, Any], ...] = (  # with the noise said: by default it is that of the smallest query
    {"relative_noise": 3.0},
    {"filter": "lang = 'en'", "columns": ["tokens"], "noise_variance": 0.3},
    {"acquisition": "vtl", "exclude": SOME_IDS, "known": clustered(4, 4), "relative_noise": 3.0},
    {"acquisition": "uncertainty"},
    {"include": SOME_IDS[:2], "relative_noise": 0.2, "target_noise_variance": 0.1},
)


@pytest.fixture(autouse=True)
def few_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector, "_FETCHED", 32)


def of_query(table: pa.Table, name: Any) -> pa.Table:
    return table.filter(pc.field("query") == name)


@pytest.mark.parametrize("options", OPTIONS)
def test_each_query_has_what_its_own_selection_has(options: dict[str, Any]) -> None:
    with ray_itl.open_pool(TABLE) as pool:
        table = pool.select_many(QUERIES, 8, **options)
        assert table.column_names == ["query", "rank", "id", "gain", *options.get("columns", [])]
        assert table["query"].to_pylist() == [name for name in QUERIES for _ in range(8)]
        for name, rows in QUERIES.items():
            own, alone = of_query(table, name), pool.select(rows, 8, **options)
            assert own["id"].to_pylist() == alone.ids
            assert own["rank"].to_pylist() == list(range(1, 9))
            np.testing.assert_allclose(own["gain"].to_numpy(), alone.gains, rtol=1e-9)
            for column in options.get("columns", []):
                assert own[column].equals(alone.table[column])


def test_queries_come_in_many_forms(tmp_path: Path) -> None:
    rows, names = np.concatenate(list(QUERIES.values())), [n for n, part in QUERIES.items() for _ in part]
    target = pa.table({"prompt": names, "embedding": list(rows)}).take(np.random.default_rng(0).permutation(len(rows)))
    pq.write_table(target, tmp_path / "target.parquet")
    with ray_itl.open_pool(TABLE) as pool:
        expected = pool.select_many(QUERIES, 5)
        numbered = pool.select_many(list(QUERIES.values()), 5)
        assert numbered["id"].equals(expected["id"])
        assert numbered["query"].unique().to_pylist() == list(range(5))
        for given in (target, tmp_path / "target.parquet", target.to_pandas()):
            found = pool.select_many(given, 5, query_column="prompt")
            for name in QUERIES:
                assert of_query(found, name)["id"].equals(of_query(expected, name)["id"])
        each_row = pool.select_many(torch.from_numpy(TARGET), 5)
        assert each_row["query"].unique().to_pylist() == list(range(len(TARGET)))
        assert of_query(each_row, 3)["id"].to_pylist() == pool.select(TARGET[3:4], 5).ids


def test_nearest_rows_come_with_bounds_of_what_was_left_out() -> None:
    with ray_itl.open_pool(ROWS) as pool:
        exact, found = pool.select_many(QUERIES, 6), pool.select_many(QUERIES, 6, nearest=60)
        assert found.column_names == ["query", "rank", "id", "gain", "bound"]
        for name in QUERIES:
            near, whole = of_query(found, name), of_query(exact, name)
            sure = np.cumprod(near["gain"].to_numpy() > near["bound"].to_numpy()).astype(bool)
            assert np.array_equal(near["id"].to_numpy()[sure], whole["id"].to_numpy()[sure])
        every = pool.select_many(QUERIES, 6, nearest=len(ROWS))
        assert every["id"].equals(exact["id"])
        assert not np.any(every["bound"].to_numpy())


def test_what_cannot_be_used_is_named() -> None:
    table = pa.table({"prompt": ["a", None], "embedding": list(clustered(2, 1)), "w": [1.0, 0.0]})
    wrong: Any = {"budget": 3.0}
    fixed: Any = {"dtype": "float16"}
    with ray_itl.open_pool(TABLE) as pool:
        with pytest.raises(InputError, match="query column 'prompt' is null"):
            pool.select_many(table, 3, query_column="prompt")
        named = table.set_column(0, "prompt", pa.array(["a", "b"]))
        with pytest.raises(InputError, match="all rows of query 'b' have weight 0"):
            pool.select_many(named, 3, query_column="prompt", weight_column="w")
        with pytest.raises(ConfigError, match="hand over a mapping or list of targets"):
            pool.select_many(named, 3)
        with pytest.raises(ConfigError, match="query_column=prompt: an array has no columns"):
            pool.select_many(ROWS, 3, query_column="prompt")
        with pytest.raises(ConfigError, match="budget is no option here"):
            pool.select_many(QUERIES, 3, **wrong)
        with pytest.raises(ConfigError, match="dtype is fixed when a pool is opened"):
            pool.select_many(QUERIES, 3, **fixed)
        with pytest.raises(ConfigError, match=r"selection.n=401, but"):
            pool.select_many(QUERIES, 401)
        with pytest.raises(ConfigError, match=r"nearest=2 is less than selection.n=3"):
            pool.select_many(QUERIES, 3, nearest=2)
        with pytest.raises(InputError, match=r"embeddings of \[8, 9\] dimensions"):
            pool.select_many([clustered(1, 1), np.ones((1, 9), np.float32)], 3)
        with pytest.raises(ConfigError, match=r"acquisition.name=nearest does not go with"):
            pool.select_many(QUERIES, 3, acquisition="nearest")
