"""Options check themselves and are named when they cannot work."""

import pickle
from typing import Any

import pytest

from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.settings import AcquisitionSettings, CurationSettings, EvaluationSettings, SelectionSettings
from ray_itl.curation.state_settings import StateSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.sources.settings import PoolSettings, TargetSettings
from ray_itl.verification.settings import VerifySettings

BAD: list[tuple[type, dict[str, Any], str]] = [
    (PoolSettings, {"id_column": ""}, r"pool\.id_column=''"),
    (PoolSettings, {"embedding_column": None}, r"pool\.embedding_column=None"),
    (PoolSettings, {"columns": [1]}, r"pool\.columns=\[1\]"),
    (PoolSettings, {"columns": ["a", "a"]}, r"pool\.columns=\['a', 'a'\] .* each once"),
    (PoolSettings, {"fourier_features": 7}, r"pool\.fourier_features=7 .* even"),
    (PoolSettings, {"fourier_features": 0}, r"pool\.fourier_features=0"),
    (PoolSettings, {"storage": "tape"}, r"pool\.storage='tape' .*auto, memory, disk"),
    (PoolSettings, {"lengthscale": 0.0}, r"pool\.lengthscale=0\.0"),
    (PoolSettings, {"lengthscale": float("inf")}, r"pool\.lengthscale=inf"),
    (AcquisitionSettings, {"noise_variance": 0.0}, r"acquisition\.noise_variance=0\.0"),
    (AcquisitionSettings, {"noise_variance": True}, r"acquisition\.noise_variance=True"),
    (SelectionSettings, {"seed": 2**63}, r"selection\.seed=9223372036854775808"),
    (ClusterSettings, {"num_shards": -1}, r"cluster\.num_shards=-1"),
    (ClusterSettings, {"num_shards": True}, r"cluster\.num_shards=True"),
    (ClusterSettings, {"cpus_per_shard": -1.0}, r"cluster\.cpus_per_shard=-1\.0"),
    (ClusterSettings, {"gpus_per_shard": None}, r"cluster\.gpus_per_shard=None"),
    (ClusterSettings, {"restart_deadline_s": float("inf")}, r"cluster\.restart_deadline_s=inf"),
    (ClusterSettings, {"memory_per_shard": "much"}, r"cluster\.memory_per_shard='much' .*2GiB"),
    (ClusterSettings, {"cache_limit": "0GB"}, r"cluster\.cache_limit='0GB'"),
    (EvaluationSettings, {"class_column": "digit"}, r"evaluation\.classes is not set"),
    (EvaluationSettings, {"classes": [1]}, r"evaluation\.class_column is not set"),
    (RunSettings, {"map_sample": 0}, r"run\.map_sample=0"),
    (SelectionSettings, {"explain": "why"}, r"selection\.explain='why' .* true or false"),
    (SelectionSettings, {"min_gain": -0.1}, r"selection\.min_gain=-0\.1"),
    (SelectionSettings, {"min_gain": float("nan")}, r"selection\.min_gain=nan"),
    (StateSettings, {"tick": "../up"}, r"state\.tick='\.\./up'"),
    (StateSettings, {"tick": ""}, r"state\.tick=''"),
    (StateSettings, {"tick": "a" * 65}, r"state\.tick='a+' .* up to 64"),
    (StateSettings, {"candidates": "some"}, r"state\.candidates='some' .* new or all"),
    (StateSettings, {"on_changed": "accept"}, r"state\.on_changed='accept' .* refuse or as_new or as_seen"),
    (StateSettings, {"on_new_target": "yes"}, r"state\.on_new_target='yes'"),
    (StateSettings, {"lease_s": 0}, r"state\.lease_s=0"),
    (StateSettings, {"wait_s": -1}, r"state\.wait_s=-1"),
    (
        CurationSettings,
        {"acquisition": AcquisitionSettings("nearest"), "selection": SelectionSettings(min_gain=0.1)},
        r"selection\.min_gain=0\.1 has no meaning for acquisition\.name=nearest",
    ),
    (
        CurationSettings,
        {"state": StateSettings("s"), "selection": SelectionSettings(replacement=True)},
        r"selection\.replacement=true cannot go with state\.dir",
    ),
    (VerifySettings, {"sample": 0}, "sample=0"),
    (VerifySettings, {"max_steps": -1}, "max_steps=-1"),
    (VerifySettings, {"seed": -1}, "seed=-1"),
    (CurationSettings, {"pool": PoolSettings(path="p")}, r"target\.path is not set"),
    (CurationSettings, {"target": TargetSettings(path="t")}, r"pool\.path is not set"),
]


@pytest.mark.parametrize(("kind", "options", "message"), BAD, ids=[message for _, _, message in BAD])
def test_an_option_that_cannot_work_is_named(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        kind(**options)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(("given", "kept"), [("auto", "auto"), (0, 0), (4, 4), ("4", 4)])
def test_shards_are_a_number_or_auto(given: Any, kept: Any) -> None:
    assert ClusterSettings(num_shards=given).num_shards == kept
