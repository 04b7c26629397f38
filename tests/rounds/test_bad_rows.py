"""Rows of the pool that the model cannot read: named all at once, or passed over in every round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.rounds.group_settings import CandidateSettings, DataSettings, RoundEmbeddingSettings, RoundSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.sources.bad_rows import BadRowsError
from tests.rounds.helpers import digits_settings, write_digits

BAD = [0, 17, 250, 251, 899]


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataSettings, DataSettings]:
    """A pool with bad rows, and the pool without them."""
    folder = tmp_path_factory.mktemp("digits")
    data = write_digits(folder)
    table = pq.read_table(folder / "pool.parquet")
    images = [list(image) for image in table.column("image").to_pylist()]
    wrong: list[list[float] | None] = [[*row[1:], np.nan] for row in images]
    spoilt = [None if row == 17 else wrong[row] if row in BAD else image for row, image in enumerate(images)]
    image = pa.array(spoilt, pa.list_(pa.float32()))
    pq.write_table(table.set_column(1, "image", image), folder / "spoilt.parquet", row_group_size=250)
    rest = table.filter(pa.array(~np.isin(np.arange(900), BAD)))
    pq.write_table(rest, folder / "rest.parquet", row_group_size=250)
    spoiled = replace(data, pool=str(folder / "spoilt.parquet"), on_bad_row="skip")
    return spoiled, replace(data, pool=str(folder / "rest.parquet"))


def picks(run: Path) -> list[list[Any]]:
    folders = sorted((run / "rounds").iterdir())[1:]
    return [pq.read_table(folder / "selection.parquet").column("id").to_pylist() for folder in folders]


@pytest.mark.parametrize(
    ("rule", "which"),
    [
        ("itl", "all"),
        ("vtl", "best"),
        ("itl", "random"),
        ("nearest", "all"),
        ("cosine", "random"),
        ("random", "all"),
        ("badge", "all"),
    ],
)
def test_rounds_pick_as_without_the_bad_rows(
    pools: tuple[DataSettings, DataSettings], tmp_path: Path, rule: str, which: str
) -> None:
    changes: dict[str, Any] = {
        "candidates": CandidateSettings(which, count=60),
        "rounds": RoundSettings(count=2, batch=6, targets_per_round=10, seed=5),
    }
    found = []
    for data, name in zip(pools, ("spoiled", "sound"), strict=True):
        run = tmp_path / name
        ActiveFineTuner(digits_settings(data, run, rule, **changes)).run()
        found.append(picks(run))
    assert found[0] == found[1]
    listed = pq.read_table(tmp_path / "spoiled" / "skipped.parquet").to_pylist()
    assert [row["row"] for row in listed] == BAD
    assert [row["reason"] for row in listed][1] == "column 'image': the value is null"
    assert listed[0]["reason"] == "column 'image': a number is NaN or infinite"
    assert not (tmp_path / "sound" / "skipped.parquet").exists()


def test_given_embeddings(pools: tuple[DataSettings, DataSettings], tmp_path: Path) -> None:
    found = []
    for data, name in zip(pools, ("spoiled", "sound"), strict=True):
        settings = digits_settings(data, tmp_path / name, embedding=RoundEmbeddingSettings("column", "image"))
        ActiveFineTuner(settings).run()
        found.append(picks(tmp_path / name))
    assert found[0] == found[1]


def test_refusal_names_all(pools: tuple[DataSettings, DataSettings], tmp_path: Path) -> None:
    data = replace(pools[0], on_bad_row="refuse")
    with pytest.raises(BadRowsError, match=r"^5 rows cannot be used: .*row 0 .*row 17 .*data\.on_bad_row=skip"):
        ActiveFineTuner(digits_settings(data, tmp_path / "run")).run()


def test_a_run_that_was_refused_goes_on_with_skip(pools: tuple[DataSettings, DataSettings], tmp_path: Path) -> None:
    refusing = replace(pools[0], on_bad_row="refuse")
    with pytest.raises(BadRowsError):
        ActiveFineTuner(digits_settings(refusing, tmp_path / "run")).run()
    for data, name in ((pools[0], "run"), (pools[1], "sound")):
        ActiveFineTuner(digits_settings(data, tmp_path / name)).run()
    assert picks(tmp_path / "run") == picks(tmp_path / "sound")


def test_positions_stay_those_of_the_pool(pools: tuple[DataSettings, DataSettings], tmp_path: Path) -> None:
    """So rounds before skipping was asked for and after it agree; these candidates happen to be good."""
    few: dict[str, Any] = {"candidates": CandidateSettings("random", count=8)}
    for how in ("refuse", "skip"):
        data = replace(pools[0], on_bad_row=how)
        ActiveFineTuner(digits_settings(data, tmp_path / "run", **few)).run()
        found = picks(tmp_path / "run")
    ActiveFineTuner(digits_settings(pools[0], tmp_path / "other", **few)).run()
    assert found == picks(tmp_path / "other")
