"""Handing picks over: to a torch DataLoader, pandas, Hugging Face datasets, and a figure."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ray_itl import MissingExtraError, Selection, select
from ray_itl.core.result import GreedyStats
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.training.picks_dataset import picked_rows
from tests.helpers import DIM, Files, clustered, table_of

N = 12


@pytest.fixture(scope="module")
def pool() -> pa.Table:
    return table_of(clustered(80, seed=1))


@pytest.fixture(scope="module")
def selection(pool: pa.Table) -> Selection:
    return select(pool, clustered(9, seed=2), N, columns=["text", "weight", "embedding"])


def collect(loader: DataLoader) -> dict[str, Any]:
    """Return all batches of a loader as id -> row."""
    rows = {}
    for batch in loader:
        for k, row_id in enumerate(batch["id"].tolist()):
            rows[row_id] = {name: values[k] for name, values in batch.items()}
    return rows


@pytest.mark.parametrize(("shuffle", "num_workers"), [(False, 0), (True, 0), (True, 2)])
def test_a_loader_gets_every_pick_with_its_columns(
    pool: pa.Table, selection: Selection, shuffle: bool, num_workers: int
) -> None:
    dataset = selection.to_torch(features=True)
    rows = collect(DataLoader(dataset, batch_size=5, shuffle=shuffle, num_workers=num_workers))
    assert (set(rows), len(dataset)) == (set(selection.ids), N)
    if not shuffle:
        assert list(rows) == selection.ids
    stored = {row["id"]: row for row in pool.to_pylist()}
    for row_id, row in rows.items():
        assert row["text"] == stored[row_id]["text"]
        assert row["weight"].item() == stored[row_id]["weight"]
        torch.testing.assert_close(row["features"], torch.tensor(stored[row_id]["embedding"]))
        torch.testing.assert_close(row["embedding"], row["features"])


def test_columns_can_be_chosen_and_rows_transformed(selection: Selection) -> None:
    def row(columns: dict[str, Any]) -> tuple[int, torch.Tensor]:
        return len(columns["text"]), columns["gain"]

    first = next(iter(DataLoader(selection.to_torch(["text", "gain"], transform=row), batch_size=N)))
    assert first[0].tolist() == [len(text) for text in selection.table.column("text").to_pylist()]
    np.testing.assert_array_equal(first[1].numpy(), selection.gains)


def test_changing_a_row_leaves_the_selection_alone(selection: Selection) -> None:
    gain = selection.to_torch(["gain"])[0]["gain"]
    gain += 1
    assert selection.gains[0] < gain


def test_values_that_no_tensor_holds_stay_as_they_are() -> None:
    values = {
        "ragged": pa.array([[1, 2], [3]]),
        "texts": pa.array([["a"], ["b"]]),
        "holes": pa.array([[1.0, None], [2.0, 3.0]]),
        "image": pa.array([b"\x89PNG", b"\x00"]),
        "true": pa.array([True, False]),
        "half": pa.array(np.array([1, 2], np.float16)),
        "matrix": pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)),
    }
    row = picked_rows(pa.table(values), list(values), None, None)[1]
    assert (row["ragged"], row["texts"], row["holes"], row["image"]) == ([3], ["b"], [2.0, 3.0], b"\x00")
    assert (row["true"].dtype, row["half"].dtype) == (torch.bool, torch.float16)
    assert row["matrix"].tolist() == [3, 4]


def test_what_cannot_be_handed_over_is_named(selection: Selection) -> None:
    with pytest.raises(InputError, match=r"names 'label', which no picked row has: use some of id, weight, text, "):
        selection.to_torch(["label"])
    table = pa.table({"x": pa.chunked_array([[1], [2, None]])})
    with pytest.raises(InputError, match="'x' has no value at rank 3"):
        picked_rows(table, ["x"], None, None)
    assert picked_rows(table, ["x"], None, lambda row: row["x"] or 0)[2] == 0


def test_features_of_a_finished_run_come_from_its_files(tmp_path: Path) -> None:
    files = Files(tmp_path)
    first, again = (files.run(files.settings(pool={"dtype": "float16"})) for _ in range(2))
    assert again.picked_features is None
    assert again.features.dtype == torch.float16
    torch.testing.assert_close(again.features, first.features)
    (tmp_path / "run" / "picks.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunDirectoryError, match=r"picks\.safetensors cannot be read"):
        _ = again.features


def test_a_selection_made_by_hand_has_no_features(selection: Selection) -> None:
    bare = Selection(selection.table, "nats", np.ones(N + 1), GreedyStats())
    with pytest.raises(InputError, match="holds no features"):
        bare.to_torch(features=True)


def test_pandas_has_the_same_rows(selection: Selection) -> None:
    frame = selection.to_pandas()
    assert frame["id"].tolist() == selection.ids
    assert list(frame.columns) == selection.table.column_names


def test_the_figure_shows_every_gain_and_what_is_left(selection: Selection) -> None:
    gain, left = selection.plot_gain().data
    np.testing.assert_allclose(gain.y, selection.gains)
    np.testing.assert_array_equal(gain.x, np.arange(1, N + 1))
    np.testing.assert_allclose(left.y, selection.remaining_uncertainty)


def test_the_figure_of_no_picks_and_of_many() -> None:
    for n, drawn in ((0, 0), (1, 1), (100_000, 4000)):
        table = pa.table({"gain": np.linspace(2, 1, n)})
        gain, left = Selection(table, "nats", np.linspace(1, 0, n + 1), GreedyStats()).plot_gain().data
        assert (len(gain.x), len(left.x)) == (drawn, min(n + 1, 4000))
        assert left.x[-1] == n


@pytest.mark.parametrize(
    ("library", "use", "message"),
    [
        ("datasets", lambda s: s.to_dataset(), r'to_dataset needs datasets.* pip install "ray_itl\[datasets\]"'),
        ("polars", lambda s: s.to_polars(), r'to_polars needs polars.* pip install "ray_itl\[polars\]"'),
        ("plotly", lambda s: s.plot_gain(), r'plot_gain needs plotly.* pip install "ray_itl\[report\]"'),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    selection: Selection, monkeypatch: pytest.MonkeyPatch, library: str, use: Any, message: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=message) as caught:
        use(selection)
    assert isinstance(caught.value, ImportError)


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the extra datasets is not installed")
def test_hugging_face_gets_the_columns(selection: Selection) -> None:
    dataset = selection.to_dataset()
    assert dataset["id"][:] == selection.ids
    assert dataset.with_format("torch")[0]["embedding"].shape == (DIM,)


IMAGES = [f"image {k}".encode() * 3 for k in range(80)]


def _kinds_of_pool(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The same rows as pools of several kinds: with texts, weights, and images as bytes."""
    monkeypatch.setenv("RAY_ITL_CACHE", str(folder / "cache"))
    table = table_of(clustered(80, seed=1)).append_column("image", pa.array(IMAGES))
    named = table.append_column("gain", pa.array(np.arange(80)))
    for name in ("parquet", "lines"):
        (folder / name).mkdir()
    for k in range(2):
        part = table.slice(k * 40, 40)
        pq.write_table(part, folder / "parquet" / f"{k}.parquet")
        rows = part.drop_columns(["image"]).to_pylist()
        (folder / "lines" / f"{k}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "parquet": folder / "parquet",
        "lines": folder / "lines",
        "table": table,
        "frame": table.to_pandas().set_index(np.arange(80)[::-1]),
        "clash": named,
    }


@pytest.mark.parametrize("kind", ["parquet", "lines", "table", "frame", "clash"])
def test_whole_rows_come_back_from_every_kind_of_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pools = _kinds_of_pool(tmp_path, monkeypatch)
    found = select(pools[kind], clustered(9, seed=2), N, filter="weight < 3")
    assert {"text", "weight", "image"}.isdisjoint(found.table.column_names)
    rows = {row["id"]: row for row in pools["clash"].to_pylist()}
    frame = found.to_polars()
    assert frame["id"].to_list() == found.ids
    assert frame["rank"].to_list() == list(range(1, N + 1))
    wanted = ["text", "weight"] if kind == "lines" else ["text", "weight", "image"]
    for name in wanted:
        assert frame[name].to_list() == [rows[row][name] for row in found.ids]
    assert not {"embedding", "__index_level_0__"} & {*frame.columns}
    assert found.to_pandas(["text"])["text"].tolist() == frame["text"].to_list()
    assert "weight" not in found.to_pandas(["text"]).columns
    assert found.to_torch(["text", "gain"])[3] == {"text": frame["text"][3], "gain": torch.tensor(found.gains[3])}
    if kind == "clash":
        assert frame["gain"].to_list() == [rows[row]["gain"] for row in found.ids]
        assert frame["selection_gain"].to_list() == found.gains.tolist()
    else:
        assert frame["gain"].to_list() == found.gains.tolist()


@pytest.mark.parametrize("rule", ["itl", "nearest"])
@pytest.mark.parametrize("kind", ["parquet", "table"])
def test_whole_rows_of_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rule: str) -> None:
    pool = _kinds_of_pool(tmp_path, monkeypatch)[kind]
    first, again = (
        select(pool, clustered(9, seed=2), N, acquisition=rule, filter="weight > 1", run_dir=tmp_path / "run")
        for _ in range(2)
    )
    assert again.picked_features is None, "it was read from its files"
    assert again.to_arrow().equals(first.to_arrow())


def test_files_of_other_columns_and_types(tmp_path: Path) -> None:
    table = table_of(clustered(40, seed=1))
    pq.write_table(table.slice(0, 20).append_column("only", pa.array(["a"] * 20)), tmp_path / "0.parquet")
    numbers = table.slice(20).set_column(2, "weight", pa.array([1] * 20))
    pq.write_table(numbers.append_column("mixed", pa.array([1] * 20)), tmp_path / "1.parquet")
    found = select(tmp_path, clustered(9, seed=2), 40).to_arrow()
    for row in found.to_pylist():
        assert (row["only"], row["mixed"]) == (("a", None) if row["file"] == "0.parquet" else (None, 1))
    first = pq.read_table(tmp_path / "0.parquet").append_column("mixed", pa.array(["x"] * 20))
    pq.write_table(first, tmp_path / "0.parquet")
    selection = select(tmp_path, clustered(9, seed=2), 40)
    with pytest.raises(InputError, match=r"column 'mixed' is of type .*int64.* in different files.*selection\.jsonl"):
        selection.to_arrow()
    assert "mixed" not in selection.to_arrow(["text"]).column_names
    (tmp_path / "1.parquet").unlink()
    with pytest.raises(InputError, match=r"1\.parquet"):
        selection.to_pandas()


def test_rows_of_an_array_have_no_columns_to_add() -> None:
    found = select(clustered(40, seed=1), clustered(9, seed=2), 5)
    assert found.to_arrow().equals(found.table)
    with pytest.raises(InputError, match="the pool is an array, which has no columns"):
        found.to_arrow(["text"])


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="the extra datasets is not installed")
@pytest.mark.parametrize("kind", ["dataset", "parquet"])
def test_images_of_a_hub_dataset_stay_images(tmp_path: Path, kind: str) -> None:
    datasets: Any = importlib.import_module("datasets")
    images = [Image.new("RGB", (4, 3), (k, 2 * k, 3 * k)) for k in range(40)]
    rows = {"embedding": clustered(40, seed=1).tolist(), "picture": images, "label": [k % 2 for k in range(40)]}
    features = {
        "embedding": datasets.Sequence(datasets.Value("float32")),
        "picture": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
    }
    pool = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    if kind == "parquet":
        pool.to_parquet(tmp_path / "pool.parquet")
        pool = tmp_path / "pool.parquet"
    found = select(pool, clustered(9, seed=2), 6).to_dataset()
    assert found.features["label"].names == ["cat", "dog"]
    for row in found:
        assert row["picture"].size == (4, 3)
        assert row["picture"].getpixel((0, 0)) == (row["row"], 2 * row["row"], 3 * row["row"])
        assert row["label"] == row["row"] % 2
