"""selection.explain: what it adds, that it changes no pick, and that resuming and empty runs make no difference."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl import select
from ray_itl.core.posterior import Targets
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.selection import EXPLANATION_COLUMNS
from tests.curation.test_curation import StopAfter
from tests.helpers import Files, clustered, table_of
from tests.oracle import dense_greedy

ROWS = clustered(120, seed=1)
TARGET = clustered(7, seed=2)


def test_it_adds_its_columns_and_changes_no_pick() -> None:
    plain, explained = select(ROWS, TARGET, 8), select(ROWS, TARGET, 8, explain=True)
    assert explained.table.column_names == [*plain.table.column_names, *EXPLANATION_COLUMNS]
    assert explained.table.select(plain.table.column_names).equals(plain.table)


def test_runner_up_and_neighbours_are_those_of_the_definition() -> None:
    found = select(ROWS, TARGET, 8, noise_variance=1.0, explain=True).table.to_pylist()
    rows, targets = torch.from_numpy(ROWS).double(), torch.from_numpy(TARGET).double()
    dense = dense_greedy("itl", rows, np.arange(len(ROWS)), Targets.uniform(targets), 8, 1.0)
    units, unit_targets = (torch.nn.functional.normalize(part, dim=1) for part in (rows, targets))
    taken: list[int] = []
    for row, pick in zip(found, dense, strict=True):
        cosines = unit_targets @ units[pick.index]
        assert row["nearest_targets"] == cosines.argsort(descending=True)[:3].tolist()
        np.testing.assert_allclose(row["nearest_target_similarity"], cosines.sort(descending=True).values[:3])
        assert len(row["informed_targets"]) == 3
        assert 0 < sum(row["informed_target_share"]) < 1
        if taken:
            earlier = units[taken] @ units[pick.index]
            assert row["nearest_earlier"] == taken[int(earlier.argmax())]
            assert row["nearest_earlier_similarity"] == pytest.approx(float(earlier.max()))
        taken.append(pick.index)
        rest = pick.gains.clone()
        rest[taken] = -1.0
        assert row["runner_up"] == int(rest.argmax())
        assert row["runner_up_margin"] == pytest.approx(pick.gain - float(rest.max()), rel=1e-6, abs=1e-9)
    assert (found[0]["nearest_earlier"], found[0]["nearest_earlier_similarity"]) == (None, None)


@pytest.mark.parametrize("rule", ["vtl", "uncertainty", "nearest", "cosine", "random"])
def test_every_rule_is_explained_and_baselines_have_no_runner_up(rule: Any) -> None:
    table = select(ROWS, TARGET, 5, acquisition=rule, explain=True).table
    is_baseline = rule in ("nearest", "cosine", "random")
    assert table.column("runner_up").null_count == (5 if is_baseline else 0)
    assert table.column("runner_up").type == pa.int64()
    assert table.column("informed_targets").null_count == 0


def test_targets_and_rows_go_by_their_ids(tmp_path: Path) -> None:
    files = Files(tmp_path, text_ids=True)
    pq.write_table(table_of(clustered(12, seed=2), text_ids=True), files.target)
    table = files.run(files.settings(target={"id_column": "id"}, selection={"explain": True})).table
    names = pq.read_table(files.target).column("id").to_pylist()
    assert {name for row in table.column("nearest_targets").to_pylist() for name in row} <= set(names)
    assert all(str(name).startswith("row-") for name in table.column("runner_up").to_pylist())
    assert pq.read_table(files.folder / "run" / "selection.parquet").equals(table)


@pytest.mark.usefixtures("small_blocks")
def test_a_resumed_run_is_explained_as_a_whole_one(tmp_path: Path) -> None:
    files = Files(tmp_path)
    whole = files.run(files.settings(run=None, n=24, selection={"explain": True}))
    settings = files.settings("broken", n=24, selection={"explain": True})
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(2))
    assert files.run(settings).table.equals(whole.table)


def test_a_finished_run_without_explanations_is_not_taken_for_one_with(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.run(files.settings())
    with pytest.raises(RunDirectoryError, match=r"finished without selection\.explain"):
        files.run(files.settings(selection={"explain": True}))


def test_nothing_picked_has_nothing_to_explain_but_its_columns(tmp_path: Path) -> None:
    files = Files(tmp_path)
    settings = files.settings(selection={"explain": True, "min_gain": 1e6})
    table = files.run(settings).table
    assert (len(table), table.column_names[-8:]) == (0, list(EXPLANATION_COLUMNS))


def test_a_carried_column_of_the_same_name_is_refused_only_then() -> None:
    table = table_of(ROWS).rename_columns(["id", "embedding", "weight", "runner_up"])
    with pytest.raises(ConfigError, match=r"pool\.columns=\['runner_up'\] would overwrite"):
        select(table, TARGET, 3, columns=["runner_up"], explain=True)
    assert select(table, TARGET, 3, columns=["runner_up"]).table.column("runner_up").to_pylist()[0].startswith("text")
