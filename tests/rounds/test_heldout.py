"""Rows of the pool that are nearly equal to held-out ones: told of, or picked by no rule in any round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import ConfigError
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.data import open_tuning_data, tuning_identity
from ray_itl.rounds.group_settings import CandidateSettings, DataSettings, RoundEmbeddingSettings, RoundSettings
from ray_itl.rounds.heldout import NEAR_HELDOUT_FILE, apart_from_heldout
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.runs.directory import RunDirectory
from tests.rounds.helpers import digits_settings, write_digits

LEAKED = [3, 250, 899]


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    """Digits, of which the held-out set has some of the pool, in another type of lists."""
    folder = tmp_path_factory.mktemp("digits")
    data = write_digits(folder)
    pool, heldout = (pq.read_table(folder / f"{name}.parquet") for name in ("pool", "heldout"))
    again = pool.take(pa.array(LEAKED)).set_column(2, "label", pa.array([3, 6, 9]))
    table = pa.concat_tables([heldout, again])
    images = pa.array(table.column("image").to_pylist(), pa.list_(pa.float64()))
    pq.write_table(table.set_column(1, "image", images), folder / "heldout.parquet")
    return data


def apart(settings: FineTuneSettings) -> tuple[list[int], pa.Table, list[str]]:
    """The rows that are barred, what is listed, and what was warned of."""
    run, reporter = RunDirectory(str(settings.run.dir)), Reporter("quiet")
    run.path.mkdir(exist_ok=True)
    found = apart_from_heldout(open_tuning_data(settings), settings, run, reporter)
    return found.barred.tolist(), pq.read_table(run.path / NEAR_HELDOUT_FILE), list(reporter.warnings)


def test_the_same_content_is_listed_and_warned_of(leaky: DataSettings, tmp_path: Path) -> None:
    barred, table, warnings = apart(digits_settings(leaky, tmp_path / "run"))
    assert barred == []
    assert table.column("position").to_pylist() == LEAKED
    assert table.column("heldout_row").to_pylist() == [200, 201, 202]
    assert set(table.column("reason").to_pylist()) == {"same content"}
    assert len(warnings) == 1
    assert "3 rows of data.pool nearly equal to held-out rows" in warnings[0]
    assert "data.near_heldout=exclude" in warnings[0]


@pytest.mark.parametrize(("rule", "which"), [("itl", "all"), ("nearest", "best"), ("random", "all")])
def test_excluded_rows_are_never_picked(leaky: DataSettings, tmp_path: Path, rule: str, which: str) -> None:
    data = replace(leaky, near_heldout="exclude")
    rounds = RoundSettings(count=2, batch=4, targets_per_round=10, seed=5)
    changes: dict[str, Any] = {"rounds": rounds, "candidates": CandidateSettings(which, count=60)}
    result = ActiveFineTuner(digits_settings(data, tmp_path / "run", rule, **changes)).run()
    assert result.state == "finished"
    picked = [
        position
        for folder in sorted((tmp_path / "run" / "rounds").iterdir())[1:]
        for position in pq.read_table(folder / "selection.parquet").column("position").to_pylist()
    ]
    assert len(picked) == 8
    assert not {*picked} & {*LEAKED}


def test_too_few_rows_are_refused_and_nothing_is_left(leaky: DataSettings, tmp_path: Path) -> None:
    settings = digits_settings(replace(leaky, near_heldout="exclude"), tmp_path / "run")
    many = replace(settings, rounds=RoundSettings(count=1, batch=898, targets_per_round=10))
    with pytest.raises(ConfigError, match=r"the pool has 897 rows that can be picked \(3 are nearly equal"):
        ActiveFineTuner(many).run()
    assert not (tmp_path / "run").exists()


def test_texts_are_the_same_in_other_case_and_space(tmp_path: Path) -> None:
    pool, heldout = ["a dog", "The Cat", None, "a bird"], ["the  cat", "a fish", None]
    for name, texts in (("pool", pool), ("target", ["a dog"]), ("heldout", heldout)):
        ids, labels = pa.array(range(len(texts))), pa.array(["x"] * len(texts))
        pq.write_table(pa.table({"id": ids, "text": pa.array(texts), "label": labels}), tmp_path / f"{name}.parquet")
    paths = (str(tmp_path / f"{name}.parquet") for name in ("pool", "target", "heldout"))
    data = DataSettings(*paths, raw_column="text", classes=["x"], near_heldout="exclude")
    settings = digits_settings(data, tmp_path / "run", rounds=RoundSettings(count=1, batch=1))
    barred, table, warnings = apart(settings)
    assert (barred, warnings) == ([1], [])
    assert table.select(["heldout_row", "similarity", "reason"]).to_pylist() == [
        {"heldout_row": 0, "similarity": 1.0, "reason": "same text"}
    ]


@pytest.mark.parametrize("embedded", [True, False])
def test_given_embeddings_are_compared_by_their_cosines(tmp_path: Path, embedded: bool) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 8)).astype(np.float32)
    near = 3 * rows[[7, 30]] + 0.01 * rng.standard_normal((2, 8)).astype(np.float32)
    sets = {"pool": rows, "target": rows[:5], "heldout": np.concatenate([rng.standard_normal((6, 8)), near])}
    for name, values in sets.items():
        table = pa.table({"id": range(len(values)), "text": [f"{name} {k}" for k in range(len(values))]})
        table = table.append_column("label", pa.array(["x"] * len(values)))
        if embedded or name != "heldout":
            table = table.append_column(
                "embedding", pa.array(values.astype(np.float32).tolist(), pa.list_(pa.float32()))
            )
        pq.write_table(table, tmp_path / f"{name}.parquet")
    paths = (str(tmp_path / f"{name}.parquet") for name in sets)
    data = DataSettings(*paths, raw_column="text", classes=["x"], near_heldout="exclude")
    embedding = RoundEmbeddingSettings(kind="column", column="embedding")
    rounds = RoundSettings(count=1, batch=1)
    barred, table, _ = apart(digits_settings(data, tmp_path / "run", embedding=embedding, rounds=rounds))
    assert barred == ([7, 30] if embedded else [])
    assert table.column("heldout_row").to_pylist() == ([6, 7] if embedded else [])


def test_only_excluding_makes_a_run_another(leaky: DataSettings, tmp_path: Path) -> None:
    def identity(how: str) -> dict[str, str]:
        settings = digits_settings(replace(leaky, near_heldout=how), tmp_path / "run")
        return tuning_identity(open_tuning_data(settings), settings)

    assert identity("flag") == identity("ignore")
    assert "data.near_heldout" not in identity("flag")
    assert identity("exclude")["data.near_heldout"] == "'exclude'"
