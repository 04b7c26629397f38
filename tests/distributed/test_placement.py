"""Shards fit the cluster and the pool, and what cannot fit is refused by name. No cluster."""

from typing import Any

import pytest

from ray_itl.distributed.placement import (
    ShardPlan,
    check_fits,
    check_fits_beside,
    plan_in_process,
    plan_shards_for,
    plan_within_free,
)
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.shards.footprint import StorageOptions

GIB = 2.0**30
LAPTOP = [{"CPU": 8.0, "memory": 16 * GIB}]
CLUSTER = [{"CPU": 0.0, "memory": 8 * GIB}] + [{"CPU": 16.0, "GPU": 2.0, "memory": 64 * GIB}] * 4


def test_small_pools_are_one_shard():
    assert plan_shards_for(10_000, 768, "float32", CLUSTER, ClusterSettings()).num_shards == 1


def test_large_pools_leave_half_of_the_cpus():
    plan = plan_shards_for(10**7, 768, "float32", CLUSTER, ClusterSettings())
    assert (plan.num_shards, plan.num_threads, plan.num_cpus, plan.device) == (16, 4, 2.0, "cpu")
    check_fits(plan, 10**7, 768, CLUSTER)


def test_a_laptop_is_shared_out():
    plan = plan_shards_for(10**6, 768, "float32", LAPTOP, ClusterSettings())
    assert (plan.num_shards, plan.num_threads, plan.num_cpus) == (2, 4, 2.0)
    assert plan_shards_for(10**6, 768, "float32", LAPTOP, ClusterSettings(num_shards=8)).num_threads == 1
    two = plan_shards_for(10**6, 768, "float32", [{"CPU": 2.0, "memory": 8 * GIB}], ClusterSettings())
    assert (two.num_shards, two.num_cpus) == (1, 1.0)


def test_features_live_on_gpus_where_asked():
    plan = plan_shards_for(10**8, 768, "float16", CLUSTER, ClusterSettings(gpus_per_shard=1.0))
    assert (plan.num_shards, plan.device, plan.num_gpus) == (8, "cuda", 1.0)
    assert plan.memory(10**6, 768) < 0.1 * ShardPlan(1).memory(10**6, 768)


def test_what_the_user_says_is_kept():
    plan = plan_shards_for(1000, 8, "float32", LAPTOP, ClusterSettings(num_shards=3, cpus_per_shard=0.25))
    assert (plan.num_shards, plan.num_cpus) == (3, 0.25)


BIG = (2 * 10**7, 768, "float32", LAPTOP, ClusterSettings())  # 57 GiB of features, 2 shards


@pytest.mark.parametrize(
    ("storage", "on_disk"),
    [
        (StorageOptions("memory"), False),
        (StorageOptions("disk"), True),
        (StorageOptions("auto"), True),
        (StorageOptions("auto", memory_per_shard=2 * 2**30), True),
    ],
)
def test_features_go_to_disk_as_asked_for_or_where_memory_is_short(storage, on_disk):
    plan = plan_shards_for(*BIG, storage)
    assert (plan.num_shards, plan.on_disk) == (2, on_disk)
    if on_disk:
        assert plan.memory(10**7, 768) < 2**30
        check_fits(plan, 2 * 10**7, 768, LAPTOP)


def test_auto_stays_in_memory_where_it_can():
    small = (10**6, 768, "float32", LAPTOP, ClusterSettings())
    assert not plan_shards_for(*small, StorageOptions("auto")).on_disk
    assert not plan_shards_for(*small, StorageOptions("auto", memory_per_shard=4 * 2**30)).on_disk
    assert plan_shards_for(*small, StorageOptions("auto", memory_per_shard=2**30)).on_disk


def test_gpu_memory_decides_for_features_on_gpus():
    pool = (10**8, 768, "float16", CLUSTER, ClusterSettings(gpus_per_shard=1.0), StorageOptions("auto"))
    assert plan_shards_for(*pool, 80 * 2**30).on_disk is False
    assert plan_shards_for(*pool, 16 * 2**30).on_disk is True


@pytest.mark.parametrize("storage", ["memory", "disk", "auto"])
def test_a_limit_that_cannot_be_kept_is_refused_by_name(storage):
    with pytest.raises(ConfigError, match=r"cluster\.memory_per_shard=450 MiB.*10,000,000 rows.*cluster\.num_shards"):
        plan_shards_for(*BIG, StorageOptions(storage, memory_per_shard=450 * 2**20))


def test_a_shard_in_this_process_has_what_is_left():
    pool = (10**6, 768, "float32", 2)
    assert not plan_in_process(*pool, int(8 * GIB), StorageOptions("auto")).on_disk
    plan = plan_in_process(*pool, int(2 * GIB), StorageOptions("auto"))
    assert plan.on_disk
    assert (
        plan.memory(10**6, 768) > ShardPlan(1, on_disk=True).memory(10**6, 768) + 4 * 4 * 768 * 2**15
    )  # copies of the driver's candidates
    with pytest.raises(ConfigError, match=r"storage=memory takes \d\.\d+ GiB.*2 GiB are free.*pool\.storage=auto"):
        plan_in_process(*pool, int(2 * GIB), StorageOptions("memory"))
    with pytest.raises(ConfigError, match=r"pool\.storage=auto takes .*100 MiB are free"):
        plan_in_process(*pool, 100 * 2**20, StorageOptions("auto"))


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


def busy(nodes, cpus):
    """Nodes of which others hold so many CPUs each."""
    return [{**node, "CPU": max(0.0, node["CPU"] - cpus)} for node in nodes]


BESIDE = (1, {"CPU": 1.0, "GPU": 0.0})
ONE_CPU = [{"CPU": 1.0, "memory": 8 * GIB}]


@pytest.mark.parametrize(
    ("held", "num_shards", "num_cpus"),
    [(0, 16, 2.0), (4, 16, 2.0), (9, 12, 2.0), (13, 4, 2.0), (14.4, 1, 1.5), (15.2, 1, 0.5), (16, 1, 0.5)],
)
def test_auto_takes_what_is_free(held, num_shards, num_cpus):
    pool = (10**7, 768, "float32", CLUSTER, busy(CLUSTER, held))
    plan = plan_within_free(*pool, ClusterSettings())
    assert (plan.num_shards, plan.num_cpus) == (num_shards, num_cpus)
    check_fits(plan, 10**7, 768, CLUSTER)
    assert plan_within_free(*pool, ClusterSettings(num_shards=9)).num_shards == 9  # what was asked for is waited for
    assert plan_within_free(*pool, ClusterSettings(cpus_per_shard=1.5)).num_cpus == 1.5


@pytest.mark.parametrize(
    ("options", "nodes", "beside", "shards"),
    [
        (ClusterSettings(), ONE_CPU, BESIDE, (1, 0.0)),
        (ClusterSettings(num_shards=2), ONE_CPU, BESIDE, (2, 0.0)),
        (ClusterSettings(), [{"CPU": 2.0, "memory": 8 * GIB}], BESIDE, (1, 1.0)),
        (ClusterSettings(), [{"CPU": 2.0, "memory": 8 * GIB}], (1, {"CPU": 1.5}), (1, 0.5)),
        (ClusterSettings(), LAPTOP, (4, {"CPU": 1.0}), (2, 2.0)),
        (ClusterSettings(), LAPTOP, (7, {"CPU": 1.0}), (2, 0.5)),
        (ClusterSettings(cpus_per_shard=2), LAPTOP, (6, {"CPU": 1.0}), (1, 2.0)),
    ],
)
def test_shards_leave_room_for_the_trainer(options, nodes, beside, shards):
    plan = plan_within_free(10**6, 768, "float32", nodes, nodes, options, beside=beside)
    assert (plan.num_shards, plan.num_cpus) == shards
    check_fits(plan, 10**6, 768, nodes)
    check_fits_beside((plan.num_shards, {"CPU": plan.num_cpus}), beside, nodes)


@pytest.mark.parametrize(
    ("shards", "workers", "words"),
    [
        (
            (1, {"CPU": 0.5}),
            BESIDE,
            r"trainer\.num_workers=1 with trainer\.cpus_per_worker=1 .*own 1 shard \(0\.5 CPUs",
        ),
        ((0, {}), (1, {"CPU": 2.0}), r"trainer\.cpus_per_worker=2 need room, but the cluster has 1 CPU on 1 node"),
        ((0, {}), (1, {"CPU": 1.0, "GPU": 1.0}), r"and trainer\.use_gpu=true"),
    ],
)
def test_a_trainer_that_finds_no_room_is_known_before_any_work(shards, workers, words):
    with pytest.raises(ConfigError, match=words):
        check_fits_beside(shards, workers, ONE_CPU)


def test_copies_are_planned_where_they_fit_from_the_fastest_tier_down():
    """2 x 10^7 x 768 on 2 shards: rows and copies, rows alone, copies with rows on disk, both there, rows there."""
    rows, dim = 2 * 10**7, 768

    def tier(gib: float, **options: Any) -> tuple[bool, int, bool]:
        storage = StorageOptions("auto", int(gib * GIB), **options)
        plan = plan_shards_for(rows, dim, "float32", CLUSTER, ClusterSettings(num_shards=2), storage)
        return plan.on_disk, plan.copy_bytes, plan.copies_on_disk

    assert tier(60, screening="auto") == (False, dim + 4, False)
    assert tier(37, screening="auto") == (False, 0, False)
    assert tier(12, screening="auto") == (True, dim + 4, False)
    assert tier(2, screening="auto") == (True, dim + 4, True)
    assert tier(2, screening="auto", cache_limit=int(30 * GIB)) == (True, 0, False)
    assert tier(37, screening="int8") == (True, dim + 4, False)
    assert tier(2, screening="int8") == (True, dim + 4, True)
    assert tier(60, screening="bfloat16") == (False, 2 * dim, False)
    assert tier(60, screening="float32") == (False, 0, False)
    with pytest.raises(ConfigError, match="memory_per_shard"):
        tier(0.5, screening="int8")
    few = plan_shards_for(1000, dim, "float32", CLUSTER, ClusterSettings(), StorageOptions(screening="auto"))
    assert few.copy_bytes == 0  # they would not pay
