"""Several tasks among the targets: the picks are those of the weighted sum of their gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl import select
from ray_itl.core.posterior import Targets
from ray_itl.curation.open import open_problem
from ray_itl.curation.pool import storage_options
from ray_itl.curation.problem import tasks_among
from ray_itl.curation.settings import AcquisitionSettings, CurationSettings
from ray_itl.curation.summary import summarise
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.shards.footprint import STATE_BYTES
from ray_itl.sources.settings import TargetSettings
from tests.helpers import Files
from tests.oracle import dense_greedy

_TASKS = ["code", "chat", "code", "maths"] * 3
_WEIGHTS = {"chat": 0.2, "maths": 3.0}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Files whose targets belong to three tasks."""
    files = Files(tmp_path)
    target = pq.read_table(files.target).append_column("task", pa.array(_TASKS).dictionary_encode())
    pq.write_table(target, files.target)
    return files


def _dense(files: Files, rule: Any, weights: dict[str, float], avoid: list[tuple[Targets, float]]) -> list[Any]:
    rows = torch.tensor(np.array(files.table.column("embedding").to_pylist())).to(torch.float64)
    sample = torch.tensor(np.array(pq.read_table(files.target).column("embedding").to_pylist()))
    tasks = [
        (Targets.uniform(sample[[each == name for each in _TASKS]]), weights.get(name, 1.0))
        for name in ("chat", "code", "maths")
    ]
    ids = files.table.column("id").to_numpy()
    (first, weight), *others = tasks
    return dense_greedy(rule, rows, ids, first, 12, 1.0, weight=weight, others=[*others, *avoid])


@pytest.mark.parametrize("with_avoid", [False, True])
@pytest.mark.parametrize("rule", ["itl", "vtl"])
@pytest.mark.usefixtures("small_blocks")
def test_the_picks_are_those_of_the_sum(files: Files, rule: str, with_avoid: bool) -> None:
    avoided = torch.tensor(np.array(pq.read_table(files.known).column("embedding").to_pylist()))
    avoid = [(Targets.uniform(avoided), -0.5)] if with_avoid else []
    expected = _dense(files, rule, _WEIGHTS, avoid)
    target = {"task_column": "task", "task_weights": _WEIGHTS}
    away = {"path": str(files.known), "weight": 0.5} if with_avoid else {}
    selection = files.run(files.settings(acquisition={"name": rule}, target=target, avoid=away))
    ids = files.table.column("id").to_numpy()
    assert selection.ids == ids[[pick.index for pick in expected]].tolist()
    np.testing.assert_allclose(selection.gains, [pick.gain for pick in expected], rtol=1e-6, atol=1e-9)
    assert selection.ids != files.run(files.settings("plain", acquisition={"name": rule}, avoid=away)).ids


def test_one_task_of_weight_one_is_no_task_at_all(files: Files) -> None:
    target = pq.read_table(files.target).append_column("same", pa.array([7] * len(_TASKS)))
    plain, one = select(files.table, target, 12), select(files.table, target, 12, task_column="same")
    assert one.ids == plain.ids
    assert one.gains.tolist() == plain.gains.tolist()


def test_a_run_says_how_much_of_each_task_is_left(files: Files) -> None:
    target = {"task_column": "task", "task_weights": _WEIGHTS}
    selection = files.run(files.settings(target=target, selection={"explain": True}))
    tasks = selection.metrics["tasks"]
    assert [(task["name"], task["weight"], task["targets"]) for task in tasks] == [
        ("chat", 0.2, 3),
        ("code", 1.0, 6),
        ("maths", 3.0, 3),
    ]
    assert selection.picked_features is not None
    picks = selection.picked_features.to(torch.float64)
    sample = torch.tensor(np.array(pq.read_table(files.target).column("embedding").to_pylist()), dtype=torch.float64)
    covariance = torch.linalg.inv(torch.eye(sample.shape[1], dtype=torch.float64) + picks.mT @ picks)
    for task in tasks:
        own = sample[[name == task["name"] for name in _TASKS]]
        left = float((own @ covariance * own).sum() / own.square().sum())
        assert task["uncertainty_left"] == pytest.approx(left, rel=1e-9)
        assert f"task {task['name']}: {left:.1%} of its uncertainty left" in summarise(selection).text


def test_a_run_goes_on_only_with_the_same_tasks(files: Files) -> None:
    files.run(files.settings(target={"task_column": "task"}))
    with pytest.raises(RunDirectoryError, match="tasks"):
        files.run(files.settings(target={"task_column": "task", "task_weights": {"chat": 2.0}}))
    with pytest.raises(RunDirectoryError, match="tasks"):
        files.run(files.settings())


def test_every_task_has_two_scores_in_memory(files: Files) -> None:
    settings = files.settings(target={"task_column": "task"})
    problem = open_problem(settings)
    assert storage_options(problem, settings).state_bytes == STATE_BYTES + 2 * 2 * 8


def test_names_of_tasks_and_the_order_of_targets_do_not_decide(files: Files) -> None:
    target = pq.read_table(files.target)
    shuffled = target.take(pa.array(np.random.default_rng(0).permutation(len(target))))
    first, other = (select(files.table, t, 12, task_column="task", task_weights=_WEIGHTS) for t in (target, shuffled))
    assert first.ids == other.ids
    np.testing.assert_allclose(first.gains, other.gains, rtol=1e-9)


def test_what_cannot_be_used(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"no task 'chats': did you mean 'chat'\? there are chat, code, maths"):
        files.run(files.settings(target={"task_column": "task", "task_weights": {"chats": 2.0}}))
    with pytest.raises(ConfigError, match="17 tasks, more than 16"):
        tasks_among([str(i) for i in range(17)], {})
    with pytest.raises(ConfigError, match=r"target\.task_weights={'a': 0} cannot be used: give positive numbers"):
        TargetSettings(task_column="task", task_weights={"a": 0})
    with pytest.raises(ConfigError, match=r"set target\.task_column, too"):
        TargetSettings(task_weights={"a": 1.0})
    with pytest.raises(ConfigError, match=r"target\.task_column has no meaning for acquisition\.name=nearest"):
        CurationSettings(target=TargetSettings(task_column="t"), acquisition=AcquisitionSettings("nearest"))
    table = pq.read_table(files.target).drop_columns(["task"]).append_column("task", pa.array([None, *_TASKS[1:]]))
    with pytest.raises(InputError, match=r"targets: row 0 \(counting from 0\): task column 'task' is null"):
        select(files.table, table, 12, task_column="task")
