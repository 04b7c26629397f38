"""Connections end what they began and nothing else."""

import os
from pathlib import Path

import pytest
import ray

from ray_itl.cluster.connection import connect
from ray_itl.cluster.nodes import living_nodes
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.features import Identity
from ray_itl.distributed.metrics import SelectionMetrics
from ray_itl.distributed.opening import open_ray_pool
from ray_itl.distributed.placement import ShardPlan
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from tests.distributed.helpers import local_pool, make_rows, picked, select, write_rows

TOKEN_FILE = Path.home() / ".ray" / "auth_token"
HAD_TOKEN_FILE = TOKEN_FILE.exists()


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_an_existing_connection_is_used_and_left_alone():
    with connect("somewhere:1"):
        assert living_nodes()[0]["CPU"] == 4
    assert ray.is_initialized()


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_the_embedded_cluster_asks_for_a_token_that_is_in_no_file():
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert HAD_TOKEN_FILE or os.environ["RAY_AUTH_TOKEN"]
    assert TOKEN_FILE.exists() == HAD_TOKEN_FILE


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_planned_pool_with_metrics(tmp_path):
    source = write_rows(tmp_path, make_rows(600))
    metrics, said = SelectionMetrics("a test"), []
    with open_ray_pool(source, Identity(), "float64", ClusterSettings(), said.append, metrics.on_pass) as pool:
        pool.load()
        result = select(pool, InformationGain(0.1), n=20, on_progress=metrics.on_progress)
    assert picked(result) == picked(select(local_pool(source), InformationGain(0.1), n=20))
    assert pool.num_shards == 1
    assert said == ["shards: 1 (threads each: 4, on cpu)"]


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_pool_that_cannot_fit_is_refused_at_once(tmp_path):
    source = write_rows(tmp_path, make_rows(100))
    with (
        pytest.raises(ConfigError, match=r"cluster\.gpus_per_shard=1"),
        open_ray_pool(source, Identity(), "float32", ClusterSettings(gpus_per_shard=1.0)),
    ):
        pass


def test_an_address_where_nothing_answers_is_named(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(ConfigError, match=r"cluster\.address=127\.0\.0\.1:1 "), connect("127.0.0.1:1"):
        pass
    with pytest.raises(ConfigError, match="not for"), connect("127.0.0.1:1", num_cpus=1):
        pass


def test_storage_of_a_plan_is_stated():
    assert ShardPlan(1).memory(1000, 100) == int(1.2 * 1000 * 433) + 64 * 2**20
