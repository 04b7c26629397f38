"""Tasks in files, carried out here or on workers that may die: always the same result."""

import asyncio
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ray_itl.errors import ConfigError, DivergedError, InputError, NumericalError, TrainingError
from ray_itl.training import trainer as trainer_module
from ray_itl.training.checkpoint import second_moments_path
from ray_itl.training.coordinator import Assignment, FailurePolicy, TaskCoordinator, TaskStatus
from ray_itl.training.examples import write_examples
from ray_itl.training.ray_trainer import RayTrainer
from ray_itl.training.registry import ModelSpec, load
from ray_itl.training.second_moments import read_second_moments
from ray_itl.training.settings import TrainingSettings
from ray_itl.training.trainer import LocalTrainer, TrainTask, read_result
from tests.training.worker_helpers import MLP, digits

SETTINGS = TrainingSettings(epochs=3, batch_size=32)


def make_task(folder: Path, name: str = "out", **changes) -> TrainTask:
    """A task on a hundred digits, whose files are in a folder."""
    if not (folder / "examples").exists():
        write_examples(folder / "examples", digits().take(slice(0, 100)))
        write_examples(folder / "heldout", digits().take(slice(100, 400)))
    examples, heldout = str(folder / "examples"), str(folder / "heldout")
    return replace(TrainTask(MLP, examples, str(folder / name), SETTINGS, heldout=heldout), **changes)


def weights(path: str, model: ModelSpec = MLP) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in load(model, path, 0).parameters()])


def test_a_task_leaves_checkpoint_and_result(tmp_path):
    task = make_task(tmp_path)
    result = LocalTrainer().fit(task)
    assert result.checkpoint == task.output
    assert len(result.losses) == len(result.seconds) == 3
    assert result.losses[-1] < result.losses[0]
    assert result.total_seconds >= sum(result.seconds)
    assert set(result.metrics) == {"accuracy", "balanced_accuracy", "log_loss", "class_accuracy", "confusion"}
    assert result.stopped == "12 steps: training.epochs=3"
    trained, fresh = weights(task.output), MLP.build(0).state_dict()["head.bias"]
    assert not torch.equal(trained[-10:], fresh)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["examples", "heldout", "out", "out.json"]


def test_second_moments_are_the_means_of_squared_gradients(tmp_path):
    """After one step of Adam on all examples v = (1 - beta_2) g^2."""
    settings = TrainingSettings(steps=1, batch_size=100, keep_second_moments=True, reweight_classes=False)
    task = make_task(tmp_path, settings=settings, heldout=None)
    LocalTrainer().fit(task)
    learner, examples = load(MLP, None, 0), digits().take(slice(0, 100))
    assert examples.labels is not None
    loss = torch.nn.functional.cross_entropy(learner(examples.inputs), examples.labels)
    first = dict(zip(dict(learner.named_parameters()), torch.autograd.grad(loss, [*learner.parameters()]), strict=True))
    found = read_second_moments(second_moments_path(task.output), dict(learner.named_parameters()))
    assert found.keys() == first.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(found[name], 1e-3 * gradient**2, rtol=1e-4, atol=1e-12)
    assert not second_moments_path(make_task(tmp_path, "plain").output).exists()
    with pytest.raises(ConfigError, match=r"training\.keep_second_moments=True.*sgd has none; use adam"):
        TrainingSettings(optimiser="sgd", keep_second_moments=True)


def test_a_finished_task_is_not_carried_out_again(tmp_path, monkeypatch):
    task = make_task(tmp_path)
    result = LocalTrainer().fit(task)
    monkeypatch.setattr("ray_itl.training.trainer.train", lambda *_: pytest.fail("trained again"))
    assert LocalTrainer().fit(task) == result
    elsewhere = tmp_path.rename(tmp_path.with_name("moved"))
    moved = make_task(elsewhere)
    assert LocalTrainer().fit(moved) == replace(result, checkpoint=moved.output)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"settings": replace(SETTINGS, learning_rate=0.1)},
        {"reset_head": True},
        {"heldout": None},
        {"model": ModelSpec("mlp", {**MLP.options, "hidden": [16]})},
    ],
)
def test_another_task_is(tmp_path, change):
    task = make_task(tmp_path)
    LocalTrainer().fit(task)
    assert read_result(task) is not None
    assert read_result(replace(task, **change)) is None


def test_a_task_is_carried_out_again_when_its_files_changed_or_are_gone(tmp_path):
    task = make_task(tmp_path)
    LocalTrainer().fit(task)
    before = (tmp_path / "out").read_bytes()
    write_examples(tmp_path / "examples", digits().take(slice(1, 101)))
    assert read_result(task) is None
    LocalTrainer().fit(task)
    assert (tmp_path / "out").read_bytes() != before
    for damage in (
        lambda: task.result_path.write_text("{"),
        lambda: task.result_path.write_text(json.dumps({"task": "x", "result": {}})),
        task.result_path.unlink,
        (tmp_path / "out").unlink,
    ):
        LocalTrainer().fit(task)
        damage()
        assert read_result(task) is None


def test_a_task_starts_from_a_checkpoint_warm_or_with_a_new_head(tmp_path):
    LocalTrainer().fit(make_task(tmp_path, "first"))
    first = str(tmp_path / "first")
    rest = replace(SETTINGS, epochs=0)
    warm, headless = (
        make_task(tmp_path, n, start=first, settings=rest, reset_head=n == "new") for n in ("warm", "new")
    )
    LocalTrainer().fit(warm)
    LocalTrainer().fit(headless)
    assert torch.equal(weights(warm.output), weights(first))
    old, new = (load(MLP, path, 0).state_dict() for path in (first, headless.output))
    assert {name for name in old if not torch.equal(old[name], new[name])} == {"head.weight", "head.bias"}


def test_what_cannot_be_read_is_named(tmp_path):
    task = make_task(tmp_path)
    with pytest.raises(InputError, match=r"a checkpoint '.*/no' does not exist"):
        LocalTrainer().fit(replace(task, start=str(tmp_path / "no")))
    with pytest.raises(InputError, match=r"examples file '.*/no' does not exist"):
        LocalTrainer().fit(replace(task, examples=str(tmp_path / "no")))


def test_workers_fetch_a_task_once_and_the_driver_hears_of_it(tmp_path):
    async def story():
        coordinator, task = TaskCoordinator(), make_task(tmp_path)
        assert await coordinator.fetch(0, 0, 0.01) is None
        waiting = asyncio.create_task(coordinator.fetch(0, 0, 5))
        await asyncio.sleep(0.01)
        await coordinator.assign(Assignment(1, task))
        assert await waiting == await coordinator.fetch(1, 0, 5) == Assignment(1, task)
        assert await coordinator.fetch(0, 1, 0.01) is None
        assert await coordinator.fetch(0, 0, 5) == Assignment(1, task)  # a new worker after a loss
        await coordinator.report_crash("worker 1: OSError")
        await coordinator.report(1, 1, None)
        status = await coordinator.status(0.01)
        assert (status.finished, status.attempts, status.last_failure) == (False, 2, "worker 1: OSError")
        assert status.silent_s < 5
        await coordinator.report(0, 0, None)  # late news of an earlier task
        assert not (await coordinator.status(0.01)).finished
        await coordinator.report(1, 0, None)
        assert (await coordinator.status(5)).finished
        assert await coordinator.fetch(0, 0, 0.01) is None  # a new worker finds nothing to do
        await coordinator.assign(Assignment(2, None))
        status = await coordinator.status(0.01)
        assert (status.finished, status.attempts, status.last_failure) == (False, 0, "")
        assert await coordinator.fetch(1, 1, 5) == Assignment(2, None)
        await coordinator.report(2, 1, InputError("bad row"))
        assert str((await coordinator.status(5)).error) == "bad row"

    asyncio.run(story())


def test_the_driver_waits_or_gives_up():
    policy = FailurePolicy(max_failures=2, restart_deadline_s=60)
    fine = TaskStatus(finished=False, error=None, attempts=3, silent_s=119, last_failure="", placement_group=None)
    assert policy.decide(fine) is None
    bad_row = InputError("bad row")
    assert policy.decide(replace(fine, error=bad_row)) is bad_row
    lost = policy.decide(replace(fine, attempts=4, last_failure="worker 1: OSError: x"))
    assert isinstance(lost, TrainingError)
    assert "lost 3 times" in str(lost)
    assert "worker 1: OSError: x" in str(lost)
    silent = policy.decide(replace(fine, silent_s=121))
    assert isinstance(silent, TrainingError)
    assert "trainer.restart_deadline_s=60" in str(silent)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_workers", 0),
        ("cpus_per_worker", 0),
        ("num_threads", 0),
        ("max_failures", -1),
        ("restart_deadline_s", 0),
    ],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ConfigError, match=rf"trainer\.{option}="):
        RayTrainer(**{"num_workers": 1, "storage_path": "x", option: value})


def test_errors_of_a_task_are_the_users_own(tmp_path):
    task = make_task(tmp_path, settings=replace(SETTINGS, optimiser="sgd", learning_rate=1e30))
    with pytest.raises(DivergedError, match="learning_rate") as caught:
        LocalTrainer().fit(task)
    assert read_result(task) is None
    assert not Path(task.output).exists()
    assert isinstance(caught.value, NumericalError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # between processes


def test_scores_that_are_no_numbers_leave_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer_module, "evaluate", lambda *_: {"accuracy": 0.5, "log_loss": math.inf})
    task = make_task(tmp_path)
    with pytest.raises(DivergedError, match=r"score log_loss inf after it; lower training\.learning_rate"):
        LocalTrainer().fit(task)
    assert not Path(task.output).exists()
    assert read_result(task) is None
