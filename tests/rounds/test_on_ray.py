"""Rounds with shards and trainers on Ray: the same picks and the same figures as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ray_itl.distributed.settings import ClusterSettings
from ray_itl.rounds.group_settings import DataSettings, RoundSettings
from ray_itl.rounds.result import FineTuning
from ray_itl.rounds.trainer_settings import TrainerSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from tests.rounds.helpers import digits_settings, picks_of

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]
ROUNDS = RoundSettings(2, 8, 10, 5)


@pytest.fixture(scope="module")
def expected(data: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> FineTuning:
    torch.set_num_threads(1)
    settings = digits_settings(data, tmp_path_factory.mktemp("local") / "run", rounds=ROUNDS)
    return ActiveFineTuner(settings).run()


@pytest.mark.parametrize(
    "kind", ["ray_long_lived", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_shards_and_workers_change_nothing(kind: str, expected: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    settings = digits_settings(
        data,
        tmp_path / "run",
        rounds=ROUNDS,
        cluster=ClusterSettings(num_shards=2, cpus_per_shard=0.5),
        trainer=TrainerSettings(kind, cpus_per_worker=0.5),
    )
    result = ActiveFineTuner(settings).run()
    assert picks_of(result.path) == picks_of(expected.path)
    for name in ("heldout.accuracy", "heldout.log_loss", "num_on_task"):
        assert result.curves.column(name).to_pylist() == expected.curves.column(name).to_pylist()
    assert result.checkpoint is not None
    assert expected.checkpoint is not None
    assert result.checkpoint.read_bytes() == expected.checkpoint.read_bytes()
