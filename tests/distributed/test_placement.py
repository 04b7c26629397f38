"""Shards fit the cluster and the pool, and what cannot fit is refused by name. No cluster."""

from dataclasses import dataclass
from typing import Any

import pytest

from ray_itl.distributed.placement import ShardPlan, check_fits, plan_shards_for
from ray_itl.errors import ConfigError

GIB = 2.0**30
LAPTOP = [{"CPU": 8.0, "memory": 16 * GIB}]
CLUSTER = [{"CPU": 0.0, "memory": 8 * GIB}] + [{"CPU": 16.0, "GPU": 2.0, "memory": 64 * GIB}] * 4


@dataclass
class Options:
    num_shards: Any = "auto"
    cpus_per_shard: float | None = None
    gpus_per_shard: float = 0.0
    restart_deadline_s: float = 60.0


def test_small_pools_are_one_shard():
    assert plan_shards_for(10_000, 768, "float32", CLUSTER, Options()).num_shards == 1


def test_large_pools_leave_half_of_the_cpus():
    plan = plan_shards_for(10**7, 768, "float32", CLUSTER, Options())
    assert (plan.num_shards, plan.num_threads, plan.num_cpus, plan.device) == (16, 4, 2.0, "cpu")
    check_fits(plan, 10**7, 768, CLUSTER)


def test_a_laptop_is_shared_out():
    plan = plan_shards_for(10**6, 768, "float32", LAPTOP, Options())
    assert (plan.num_shards, plan.num_threads, plan.num_cpus) == (2, 4, 2.0)
    assert plan_shards_for(10**6, 768, "float32", LAPTOP, Options(num_shards=8)).num_threads == 1
    two = plan_shards_for(10**6, 768, "float32", [{"CPU": 2.0, "memory": 8 * GIB}], Options())
    assert (two.num_shards, two.num_cpus) == (1, 1.0)


def test_features_live_on_gpus_where_asked():
    plan = plan_shards_for(10**8, 768, "float16", CLUSTER, Options(gpus_per_shard=1.0))
    assert (plan.num_shards, plan.device, plan.num_gpus) == (8, "cuda", 1.0)
    assert plan.memory(10**6, 768) < 0.1 * ShardPlan(1).memory(10**6, 768)


def test_what_the_user_says_is_kept():
    plan = plan_shards_for(1000, 8, "float32", LAPTOP, Options(num_shards=3, cpus_per_shard=0.25))
    assert (plan.num_shards, plan.num_cpus) == (3, 0.25)


@pytest.mark.parametrize(
    ("plan", "num_rows", "option"),
    [
        (ShardPlan(1, num_cpus=9), 1000, r"cluster\.cpus_per_shard=9"),
        (ShardPlan(1, num_gpus=1), 1000, r"cluster\.gpus_per_shard=1"),
        (ShardPlan(2), 2 * 10**7, r"cluster\.num_shards=2 makes shards of .* GiB"),
        (ShardPlan(9, num_cpus=1), 1000, r"cluster\.num_shards=9, but the cluster has room for 8"),
    ],
)
def test_what_cannot_fit_is_refused_by_name(plan, num_rows, option):
    with pytest.raises(ConfigError, match=option):
        check_fits(plan, num_rows, 768, LAPTOP)
