"""`select`: every kind of input gives the same picks, options do what they say, arguments are checked."""

from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import polars
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl import select
from ray_itl.core.messages import PRECISIONS
from ray_itl.core.posterior import Targets
from ray_itl.core.screening import speed
from ray_itl.curation.settings import ENOUGH_TARGETS, CurationSettings
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.options.text import from_yaml
from tests.helpers import Files, clustered, table_of
from tests.oracle import dense_greedy

NUM_ROWS = 120
ROWS = clustered(NUM_ROWS, seed=1)
TARGET = clustered(7, seed=2)
TABLE = table_of(ROWS).set_column(0, "id", pa.array(np.arange(NUM_ROWS)))


def dense_ids(n: int, **options: Any) -> list[int]:
    rows, target = torch.from_numpy(ROWS).double(), torch.from_numpy(TARGET).double()
    weights = torch.as_tensor(options.pop("weights", np.ones(len(TARGET))), dtype=torch.float64)
    noise = ENOUGH_TARGETS / float(weights.sum()) * float(f"{float(rows.square().sum(dim=1).mean()):.6g}")
    picks = dense_greedy("itl", rows, np.arange(NUM_ROWS), Targets(target, weights), n, noise, **options)
    return [pick.index for pick in picks]


def as_kind(kind: str, folder: Path) -> Any:
    """The same pool as one of the kinds that may be handed over."""
    pq.write_table(TABLE.slice(0, 50), folder / "a.parquet")
    pq.write_table(TABLE.slice(50), folder / "b.parquet")
    paths = [folder / "a.parquet", folder / "b.parquet"]
    return {
        "folder": folder,
        "text path": str(folder),
        "glob": f"{folder}/*.parquet",
        "list of files": paths,
        "table": TABLE,
        "dataset": pads.dataset(folder, format="parquet"),
        "dataset in memory": pads.dataset(TABLE),
        "numpy": ROWS,
        "float64": ROWS.astype(np.float64),
        "torch": torch.from_numpy(ROWS),
        "pandas": TABLE.to_pandas(),
        "polars": polars.DataFrame(TABLE),
        "hub": hub_dataset(),
    }[kind]


def hub_dataset() -> datasets.Dataset:
    """The pool as a Hugging Face dataset that reads other rows than it shows."""
    reversed_rows = datasets.Dataset(pa.table(TABLE).take(pa.array(np.arange(NUM_ROWS)[::-1])))
    return reversed_rows.select(range(NUM_ROWS - 1, -1, -1))


KINDS = ["folder", "text path", "glob", "list of files", "table", "dataset", "dataset in memory", "numpy", "float64"]


@pytest.mark.parametrize("kind", [*KINDS, "torch", "pandas", "polars", "hub"])
def test_every_kind_of_pool_gives_the_picks_of_the_definition(tmp_path: Path, kind: str) -> None:
    assert select(as_kind(kind, tmp_path), TARGET, 6).ids == dense_ids(6)


@pytest.mark.parametrize("kind", ["path", "table", "torch"])
def test_targets_of_every_kind(tmp_path: Path, kind: str) -> None:
    pq.write_table(table_of(TARGET), tmp_path / "t.parquet")
    target = {"path": tmp_path / "t.parquet", "table": table_of(TARGET), "torch": torch.from_numpy(TARGET)}[kind]
    assert select(ROWS, target, 6).ids == dense_ids(6)


@pytest.mark.parametrize("kind", ["list of files", "numpy", "table", "dataset"])
def test_a_run_directory_is_resumed_by_the_same_call(tmp_path: Path, kind: str) -> None:
    (tmp_path / "pool").mkdir()
    pool = as_kind(kind, tmp_path / "pool")
    first = select(pool, TARGET, 5, run_dir=tmp_path / "run")
    assert first.run_dir == tmp_path / "run"
    again = select(pool, TARGET, 5, run_dir=tmp_path / "run")
    assert again.table.equals(first.table)
    with pytest.raises(RunDirectoryError, match=r"changed: targets\)"):
        select(pool, TARGET[1:], 5, run_dir=tmp_path / "run")
    settings = from_yaml((tmp_path / "run" / "config.yaml").read_text(), CurationSettings)
    in_memory = {"numpy": "<ndarray in memory>", "table": "<Table in memory>"}
    files = [str(tmp_path / "pool" / name) for name in ("a.parquet", "b.parquet")]
    assert settings.pool.path == in_memory.get(kind, files if kind == "list of files" else settings.pool.path)


def test_a_changed_array_is_refused(tmp_path: Path) -> None:
    select(ROWS, TARGET, 3, run_dir=tmp_path / "run")
    changed = ROWS.copy()
    changed[100, 3] += 1e-3
    with pytest.raises(RunDirectoryError, match=r"changed: pool\)"):
        select(changed, TARGET, 3, run_dir=tmp_path / "run")


def test_a_relative_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    as_kind("folder", tmp_path)
    select("a.parquet", TARGET, 3, run_dir="run")
    settings = from_yaml((tmp_path / "run" / "config.yaml").read_text(), CurationSettings)
    assert settings.pool.path == str(tmp_path / "a.parquet")


def test_known_rows_change_the_picks_as_defined() -> None:
    known = ROWS[dense_ids(3)]
    dense = dense_ids(6, known=torch.from_numpy(known).double())
    assert select(ROWS, TARGET, 6, known=known).ids == dense
    assert dense != dense_ids(6)


def test_weight_two_is_listing_a_target_twice() -> None:
    weights = [2.0, 1.0, 1.0, 0.0, 1.0, 2.0, 1.0]
    target = table_of(TARGET).set_column(2, "weight", pa.array(weights))
    weighted = select(ROWS, target, 8, weight_column="weight")
    listed = select(ROWS, TARGET[[0, 0, 1, 2, 4, 5, 5, 6]], 8)
    assert weighted.ids == listed.ids == dense_ids(8, weights=weights)
    np.testing.assert_allclose(weighted.gains, listed.gains, rtol=1e-9)


def test_text_ids_and_carried_columns() -> None:
    named = TABLE.set_column(0, "name", pa.array([f"row-{i}" for i in range(NUM_ROWS)]))
    found = select(named, TARGET, 6, id_column="name", columns=["text", "weight"])
    assert found.ids == [f"row-{i}" for i in dense_ids(6)]
    rows = found.table.column("row").to_pylist()
    assert found.table.column("text").to_pylist() == TABLE.column("text").take(pa.array(rows)).to_pylist()
    assert found.table.column("weight").to_pylist() == TABLE.column("weight").take(pa.array(rows)).to_pylist()


@pytest.mark.parametrize("rule", ["itl", "vtl", "uncertainty", "nearest", "cosine", "random"])
def test_every_rule_picks_distinct_rows_of_positive_worth(rule: Any) -> None:
    found = select(ROWS, TARGET, 10, acquisition=rule)
    assert len(set(found.ids)) == 10
    assert (found.gains > 0).all()
    assert found.unit == ("variance" if rule == "vtl" else "nats")
    np.testing.assert_allclose(found.table.column("cumulative_gain"), np.cumsum(found.gains))
    assert repr(found).startswith("Selection(10 rows, ")


def test_itl_learns_more_about_the_targets_than_the_baselines() -> None:
    left = {rule: select(ROWS, TARGET, 10, acquisition=rule).remaining_uncertainty[-1] for rule in ("itl", "random")}
    assert left["itl"] < left["random"]


def test_the_seed_decides_random_picks() -> None:
    first, again = (select(ROWS, TARGET, 10, acquisition="random", seed=3).ids for _ in range(2))
    assert first == again != select(ROWS, TARGET, 10, acquisition="random", seed=4).ids


def test_all_rows_may_be_picked_and_more_with_replacement() -> None:
    assert sorted(select(ROWS[:20], TARGET, 20).ids) == list(range(20))
    assert len(select(ROWS[:5], TARGET, 20, replacement=True).ids) == 20


def test_nothing_is_printed_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    select(ROWS, TARGET, 3)
    assert capfd.readouterr() == ("", "")
    select(ROWS, TARGET, 3, quiet=False)
    assert "picked 3 of 3" in capfd.readouterr().err


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "n zero": ({"n": 0}, r"selection\.n=0 .* at least 1"),
    "n negative": ({"n": -2}, r"selection\.n=-2"),
    "n beyond the pool": ({"n": NUM_ROWS + 1}, rf"selection\.n={NUM_ROWS + 1}, but the pool has {NUM_ROWS} rows"),
    "n text": ({"n": "many"}, r"selection\.n='many' .* whole number"),
    "n true": ({"n": True}, r"selection\.n=True"),
    "n float": ({"n": 3.0}, r"selection\.n=3\.0"),
    "negative noise": ({"noise_variance": -1.0}, r"acquisition\.noise_variance=-1\.0 .* number > 0"),
    "noise NaN": ({"noise_variance": float("nan")}, r"acquisition\.noise_variance=nan"),
    "noise text": ({"noise_variance": "low"}, r"acquisition\.noise_variance='low'"),
    "negative target noise": ({"target_noise_variance": -0.1}, r"acquisition\.target_noise_variance=-0\.1"),
    "unknown rule": ({"acquisition": "best"}, r"acquisition\.name='best' .* itl, vtl"),
    "unknown features": ({"features": "magic"}, r"pool\.features='magic' .* unit_norm"),
    "unknown dtype": ({"dtype": "int8"}, r"pool\.dtype='int8' .* float16"),
    "seed": ({"seed": -1}, r"selection\.seed=-1"),
    "replacement": ({"replacement": "no"}, r"selection\.replacement='no' .* true or false"),
    "shards": ({"num_shards": "few"}, r"cluster\.num_shards='few' .* auto"),
    "replacement for a baseline": ({"acquisition": "nearest", "replacement": True}, r"selection\.replacement=true"),
    "clash of columns": ({"columns": ["gain", "text"]}, r"pool\.columns=\['gain'\] would overwrite"),
    "column not in a list": ({"columns": "text"}, r"pool\.columns='text' .* list of column names"),
    "id column": ({"id_column": 5}, r"pool\.id_column=5"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_named(tmp_path: Path, name: str) -> None:
    arguments, message = BAD_ARGUMENTS[name]
    with pytest.raises(ConfigError, match=message):
        select(**{"pool": TABLE, "target": TARGET, "n": 3, "run_dir": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "frame": ({"pool": {"embedding": [1.0]}}, r"pool is of type dict; hand over .* numpy array"),
    "nothing": ({"pool": None, "target": None}, "pool is of type NoneType"),
    "no target": ({"target": 5}, "target is of type int"),
    "known": ({"known": 5}, "known is of type int"),
    "all splits": (
        {"target": {"train": hub_dataset(), "test": hub_dataset()}},
        "target is a dictionary of datasets; hand over one of them, by its name: 'train', 'test'",
    ),
    "list of arrays": ({"pool": [ROWS]}, "the pool is a list that holds ndarray"),
    "one row": ({"pool": ROWS[0]}, r"shape \(8,\)"),
    "integers": ({"pool": ROWS.astype(np.int64)}, "int64.*cast"),
    "no rows": ({"pool": ROWS[:0]}, r"shape \(0, 8\).*hand over some rows"),
    "no targets": ({"target": TARGET[:0]}, r"targets: .*shape \(0, 8\)"),
    "other dimension": ({"target": TARGET[:, :7]}, "target embeddings have 7 dimensions, the pool's have 8"),
    "known of other dimension": ({"known": TARGET[:, :7]}, "known embeddings have 7 dimensions"),
    "columns of an array": ({"columns": ["text"]}, "an array has no columns"),
    "target NaN": ({"target": np.full_like(TARGET, np.nan)}, "targets: 7 rows.*row 0.*NaN"),
    "known infinite": ({"known": np.full_like(TARGET, np.inf)}, "known rows: 7 rows.*row 0.*inf"),
    "empty list": ({"pool": []}, "list of paths is empty; name at least one"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_named(tmp_path: Path, name: str) -> None:
    arguments, message = BAD_ROWS[name]
    with pytest.raises(InputError, match=message):
        select(**{"pool": ROWS, "target": TARGET, "n": 3, "run_dir": tmp_path / "run", **arguments})
    assert not (tmp_path / "run").exists()


def test_files_and_tables_agree_on_a_pool_with_shuffled_ids(tmp_path: Path) -> None:
    files = Files(tmp_path)
    target = pq.read_table(files.target)
    assert select(files.pool, files.target, 9).ids == select(files.table, target, 9).ids


def _wide(num_rows: int, seed: int) -> np.ndarray:
    """Rows of 48 numbers, in a few large directions and many small ones."""
    return (np.random.default_rng(seed).standard_normal((num_rows, 48)) / np.arange(1, 49) ** 0.5).astype(np.float32)


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_every_screen_picks_and_explains_the_same_rows(
    storage: Literal["memory", "disk"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    rows, targets = _wide(20_000, 1), _wide(8, 2)
    path = tmp_path / "pool.parquet"
    pq.write_table(pa.table({"id": range(len(rows)), "embedding": list(rows)}), path)
    found = {}
    for screening in PRECISIONS:
        selection = select(str(path), targets, 30, screening=screening, storage=storage, explain=True)
        assert (selection.metrics["precision"], selection.metrics["escalations"]) == (screening, 0)
        assert selection.metrics["doubtful"] < len(rows)
        found[screening] = selection.table
    for table in found.values():
        assert table.equals(found["float64"])


def test_auto_screens_large_pools_by_integers_where_these_are_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, targets = _wide(17_000, 1), _wide(8, 2)
    for fast, expected in ((True, "int8"), (False, "float32")):
        monkeypatch.setattr(speed, "integers_are_fast", lambda fast=fast: fast)
        assert select(rows, targets, 3).metrics["precision"] == expected
    assert select(rows[:16_000], targets, 3).metrics["precision"] == "float32"
