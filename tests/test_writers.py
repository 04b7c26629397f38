"""The same rows, as every common writer of Parquet and every frame stores them, give the picks of the dense oracle.

Ids are texts, embeddings float32, "lang" has a quota and is carried with "text", which some rows lack.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import deltalake
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl import Selection, select
from ray_itl.core.posterior import Targets
from tests.helpers import clustered
from tests.oracle import DenseLimits, DenseQuota, dense_greedy

N, PICKS = 90, 12
QUOTA = {"lang": {"de": {"max": 2}, "fr": {"min": 3}}}


class Rows(NamedTuple):
    """The rows as Python and NumPy have them."""

    ids: list[str]
    embedding: np.ndarray
    lang: list[str]
    text: list[str | None]

    def plain(self) -> dict[str, list[Any]]:
        return {"id": self.ids, "embedding": self.embedding.tolist(), "lang": self.lang, "text": self.text}

    def table(self) -> pa.Table:
        return pa.table(self.plain(), pa.schema([*TEXTS, ("embedding", pa.list_(pa.float32()))]))


TEXTS = [("id", pa.string()), ("lang", pa.string()), ("text", pa.string())]


@pytest.fixture(scope="module")
def rows() -> Rows:
    numbers = np.random.default_rng(3).permutation(N)
    lang = [("en", "de", "fr")[i % 3] for i in range(N)]
    return Rows(
        [f"ä-{i}" for i in numbers], clustered(N, seed=1), lang, [f"text {i}" if i % 7 else None for i in numbers]
    )


@pytest.fixture(scope="module")
def expected(rows: Rows) -> list[tuple[str, str, str | None]]:
    """Id, language and text of the picks, in order, by the dense definition in float64."""
    ids = np.array(rows.ids, dtype=np.dtypes.StringDType())
    pool, target = (torch.from_numpy(part.astype(np.float64)) for part in (rows.embedding, clustered(9, seed=2)))
    quota = DenseQuota(rows.lang, {"fr": 3}, {"de": 2})
    limits = DenseLimits(PICKS, torch.ones(N, dtype=torch.float64), quotas=[quota])
    picks = dense_greedy("itl", pool, ids, Targets.uniform(target), PICKS, 1.0, limits=limits)
    return [(rows.ids[pick.index], rows.lang[pick.index], rows.text[pick.index]) for pick in picks]


def picked(pool: Any, **options: Any) -> list[tuple[str, str, str | None]]:
    target = clustered(9, seed=2)
    selection: Selection = select(
        pool, target, PICKS, noise_variance=1.0, quotas=QUOTA, columns=["lang", "text"], **options
    )
    columns = (selection.table.column(name).to_pylist() for name in ("id", "lang", "text"))
    return list(zip(*columns, strict=True))


def by_pyarrow(rows: Rows, path: Path) -> None:
    pq.write_table(rows.table(), path / "a.parquet", row_group_size=20)


def by_pyarrow_in_views(rows: Rows, path: Path) -> None:
    table = rows.table()
    kinds = [("id", pa.string_view()), ("lang", pa.dictionary(pa.int8(), pa.string())), ("text", pa.string_view())]
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    columns |= {"id": columns["id"].cast(pa.string_view()), "text": columns["text"].cast(pa.string_view())}
    columns["lang"] = columns["lang"].dictionary_encode().cast(dict(kinds)["lang"])
    columns["embedding"] = pa.array(rows.embedding.tolist(), pa.list_view(pa.float32()))
    pq.write_table(pa.table(columns), path / "a.parquet")


def by_pyarrow_in_types_of_their_own(rows: Rows, path: Path) -> None:
    """Three files: text and float32, large text and tensors of float64, categories and lists of one list."""
    table, third = rows.table(), N // 3
    pq.write_table(table.slice(0, third), path / "a.parquet")
    part = table.slice(third, third)
    for name in ("id", "lang", "text"):
        part = part.set_column(part.column_names.index(name), name, part.column(name).cast(pa.large_string()))
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(rows.embedding[third : 2 * third].astype(np.float64)[:, None])
    pq.write_table(part.drop_columns("embedding").append_column("embedding", tensors), path / "b.parquet")
    part = table.slice(2 * third)
    nested = pa.array([[row] for row in rows.embedding[2 * third :].tolist()], pa.list_(pa.list_(pa.float32())))
    part = part.drop_columns("embedding").append_column("embedding", nested)
    lang = part.column("lang").dictionary_encode()
    pq.write_table(part.drop_columns("lang").append_column("lang", lang), path / "c.parquet")
    pd.DataFrame({name: [] for name in table.column_names}).to_parquet(path / "empty.parquet")


def by_pyarrow_in_folders(rows: Rows, path: Path) -> None:
    pads.write_dataset(rows.table(), path, format="parquet", partitioning=["lang"], partitioning_flavor="hive")


def by_polars(rows: Rows, path: Path) -> None:
    _polars(rows).write_parquet(path / "a.parquet")


def by_polars_in_folders(rows: Rows, path: Path) -> None:
    _polars(rows).with_columns(pl.col("lang").cast(pl.String)).write_parquet(path, partition_by="lang")


def by_duckdb(rows: Rows, path: Path) -> None:
    _duckdb(rows, f"copy (select id, embedding, lang, text from pool) to '{path}/a.parquet' (format parquet)")


def by_duckdb_in_arrays_and_enums(rows: Rows, path: Path) -> None:
    columns = "id, embedding::float[8] as embedding, lang::enum('de', 'en', 'fr') as lang, text"
    _duckdb(rows, f"copy (select {columns} from pool) to '{path}/a.parquet' (format parquet, parquet_version v2)")


def by_duckdb_in_folders(rows: Rows, path: Path) -> None:
    _duckdb(rows, f"copy pool to '{path}' (format parquet, partition_by (lang), overwrite)")


def by_pandas(rows: Rows, path: Path) -> None:
    frame = pd.DataFrame({**rows.plain(), "embedding": list(rows.embedding)})
    frame.iloc[:40].to_parquet(path / "a.parquet")
    frame.iloc[40:].assign(lang=frame["lang"].iloc[40:].astype("category")).to_parquet(path / "b.parquet", index=False)


def by_pandas_from_lists(rows: Rows, path: Path) -> None:
    pd.DataFrame(rows.plain()).to_parquet(path / "a.parquet")  # doubles


def by_hugging_face(rows: Rows, path: Path) -> None:
    _hugging_face(rows, datasets.List(datasets.Value("float32"))).to_parquet(path / "a.parquet")


def by_hugging_face_as_matrices(rows: Rows, path: Path) -> None:
    matrices = rows._replace(embedding=rows.embedding[:, None])
    _hugging_face(matrices, datasets.Array2D((1, 8), "float32")).to_parquet(path / "a.parquet")


def by_deltalake(rows: Rows, path: Path) -> None:
    deltalake.write_deltalake(str(path), rows.table())


def by_deltalake_in_folders(rows: Rows, path: Path) -> None:
    deltalake.write_deltalake(str(path), rows.table(), partition_by=["lang"])


def _polars(rows: Rows) -> pl.DataFrame:
    frame = pl.DataFrame({"id": rows.ids, "embedding": rows.embedding, "lang": rows.lang, "text": rows.text})
    return frame.with_columns(pl.col("lang").cast(pl.Categorical))


def _duckdb(rows: Rows, statement: str) -> None:
    with duckdb.connect() as connection:
        connection.register("written", rows.table())
        connection.execute("create table pool as select * from written")
        connection.execute(statement)


def _hugging_face(rows: Rows, embedding: Any) -> datasets.Dataset:
    texts = {name: datasets.Value("string") for name in ("id", "lang", "text")}
    return datasets.Dataset.from_dict(rows.plain(), datasets.Features({**texts, "embedding": embedding}))


WRITERS: list[Callable[[Rows, Path], None]] = [
    by_pyarrow,
    by_pyarrow_in_views,
    by_pyarrow_in_types_of_their_own,
    by_pyarrow_in_folders,
    by_polars,
    by_polars_in_folders,
    by_duckdb,
    by_duckdb_in_arrays_and_enums,
    by_duckdb_in_folders,
    by_pandas,
    by_pandas_from_lists,
    by_hugging_face,
    by_hugging_face_as_matrices,
    by_deltalake,
    by_deltalake_in_folders,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_writer_gives_the_picks_of_the_oracle(
    rows: Rows, expected: list[tuple[str, str, str | None]], write: Callable[[Rows, Path], None], tmp_path: Path
) -> None:
    write(rows, tmp_path)
    assert picked(tmp_path) == expected


@pytest.mark.parametrize("write", [by_pyarrow, by_pyarrow_in_folders, by_duckdb_in_folders])
def test_a_dataset_of_the_files_gives_the_same_picks(
    rows: Rows, expected: list[tuple[str, str, str | None]], write: Callable[[Rows, Path], None], tmp_path: Path
) -> None:
    write(rows, tmp_path)
    assert picked(pads.dataset(tmp_path, partitioning="hive", format="parquet")) == expected


FRAMES: dict[str, Callable[[Rows], Any]] = {
    "pyarrow": Rows.table,
    "polars": lambda rows: _polars(rows).to_arrow(),
    "polars, views": lambda rows: _polars(rows).to_arrow(compat_level=pl.CompatLevel.newest()),
    "pandas": lambda rows: pa.Table.from_pandas(pd.DataFrame(rows.plain())),
    "datasets": lambda rows: _hugging_face(rows, datasets.List(datasets.Value("float32"))).data.table,
    "datasets, matrices": lambda rows: (
        _hugging_face(rows._replace(embedding=rows.embedding[:, None]), datasets.Array2D((1, 8), "float32")).data.table
    ),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_gives_the_picks_of_the_oracle(
    rows: Rows, expected: list[tuple[str, str, str | None]], frame: str
) -> None:
    assert picked(FRAMES[frame](rows)) == expected


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data")  # it warns of options that it sets itself
def test_ray_data_gives_the_picks_of_the_oracle(
    rows: Rows, expected: list[tuple[str, str, str | None]], tmp_path: Path
) -> None:
    import ray.data

    lists = ray.data.from_arrow(rows.table())
    matrices = lists.map_batches(lambda batch: {**batch, "embedding": np.stack(list(batch["embedding"]))[:, None]})
    for number, dataset in enumerate((lists, matrices)):
        assert picked(dataset) == expected
        dataset.write_parquet(str(tmp_path / str(number)))
        assert picked(tmp_path / str(number)) == expected
