"""Training on workers of Ray: the result of LocalTrainer, whoever dies meanwhile.

Workers take several seconds to start, so these few tests do several things each.
"""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from ray_itl.errors import ConfigError, DivergedError, InputError, TrainingError
from ray_itl.training.ray_trainer import RayTrainer
from ray_itl.training.registry import ModelSpec
from ray_itl.training.trainer import LocalTrainer, read_result
from tests.training.test_trainers import make_task, weights
from tests.training.worker_helpers import MLP

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


def mortal(folder: Path) -> ModelSpec:
    return ModelSpec("tests.training.worker_helpers:MortalMlp", {"folder": str(folder), **MLP.options})


def assert_idle() -> None:
    """Wait until workers hold no CPU and nothing is reserved for them; fail with what is."""
    deadline = time.monotonic() + 120  # seconds where nothing else runs
    while held := what_is_held():
        assert time.monotonic() < deadline, f"not given back: {held}"
        time.sleep(0.1)


def what_is_held() -> list[str]:
    """CPUs that are not free, and every placement group that is there."""
    cpus = ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0)
    groups = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
    return [f"{cpus:g} CPUs"] * (cpus > 0) + [
        f"group {group['placement_group_id']} {group['state']}" for group in groups
    ]


def test_one_fresh_worker_gives_the_bits_of_the_local_trainer(tmp_path):
    expected, task = make_task(tmp_path, "local"), make_task(tmp_path, "ray")
    local = LocalTrainer().fit(expected)
    trainer = RayTrainer(1, str(tmp_path / "notes"))
    result = trainer.fit(task)
    trainer.close()
    assert (tmp_path / "ray").read_bytes() == (tmp_path / "local").read_bytes()
    assert result.losses == local.losses
    assert result.metrics == local.metrics
    assert_idle()
    assert trainer.fit(task) == result  # nothing starts for a task that is done
    wild = replace(task, output=str(tmp_path / "wild"), settings=replace(task.settings, learning_rate=1e30))
    with pytest.raises(DivergedError, match=r"training\.learning_rate"):
        trainer.fit(wild)
    assert not (tmp_path / "wild").exists()


def test_two_long_lived_workers_agree_with_the_local_trainer_also_when_killed(tmp_path, monkeypatch):
    model = mortal(tmp_path)
    trainer = RayTrainer(2, str(tmp_path / "notes"), long_lived=True)
    names = ("first", "second", "killed")
    first, second, killed = (make_task(tmp_path, name, model=model, seed=int(name != "first")) for name in names)
    for task in (first, second):
        result = trainer.fit(task)
        local = LocalTrainer().fit(replace(task, output=task.output + "-local"))
        torch.testing.assert_close(weights(task.output), weights(local.checkpoint), rtol=1e-4, atol=1e-5)
        assert result.losses == pytest.approx(local.losses, rel=1e-5)
        assert result.metrics["log_loss"] == pytest.approx(local.metrics["log_loss"], rel=1e-5)
    (tmp_path / "kill-1-a").touch()
    trainer.fit(killed)
    assert (tmp_path / "killed-1-a").exists()
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "second").read_bytes()
    # On a busy machine what is killed dies late. All must be given back without.
    monkeypatch.setattr(ray, "kill", lambda _: None)
    with pytest.raises(InputError, match=r"examples file '.*/no' does not exist"):
        trainer.fit(replace(killed, output=str(tmp_path / "bad"), examples=str(tmp_path / "no")))
    assert_idle()


@pytest.mark.slow
def test_workers_that_die_too_often_end_the_task(tmp_path):
    task = make_task(tmp_path, model=mortal(tmp_path))
    for order in "abc":  # one for each life, and one for the life in which the driver gives up
        (tmp_path / f"kill-0-{order}").touch()
    trainer = RayTrainer(1, str(tmp_path / "notes"), max_failures=1)
    with pytest.raises(TrainingError, match="lost 2 times"):
        trainer.fit(task)
    assert read_result(task) is None
    assert_idle()
    trainer.fit(task)
    LocalTrainer().fit(replace(task, output=str(tmp_path / "local")))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "local").read_bytes()
    trainer.close()


@pytest.mark.slow
def test_workers_that_find_no_place_end_the_wait(tmp_path):
    trainer = RayTrainer(1, str(tmp_path / "notes"), cpus_per_worker=100, restart_deadline_s=8)
    with pytest.raises(ConfigError, match=r"trainer\.restart_deadline_s=8 .*4 CPUs in all"):
        trainer.fit(make_task(tmp_path))
    assert_idle()
