"""Plans for machines that are not at hand: the arithmetic follows from rates, and options are read and checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_itl.curation.machine_plan import CoreRates, MachinePlan
from ray_itl.curation.machine_settings import MachineSettings, machines_of
from ray_itl.curation.planning_elsewhere import plan_for_machines, planned_elsewhere
from ray_itl.curation.settings import CurationSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.options.text import from_yaml, to_yaml
from ray_itl.shards.footprint import StorageOptions
from tests.helpers import Files
from tests.jobs.helpers import compose_job, load_job

ROWS, DIM = 10**9, 384
RATES = CoreRates(num_threads=2, load_rows=1e6, pass_rows=2e6, integer_rows=4e6, disk_bytes=2.0**30, pick_s=0.02)
MACHINES = MachineSettings(16, 32, "512GiB", disk="4TiB")


def plan(machines: MachineSettings = MACHINES, rows: int = ROWS, **cluster: Any) -> MachinePlan:
    options = ClusterSettings(**{"num_shards": "auto", **cluster})
    return plan_for_machines(machines, DIM, rows, 1000, (21, 101), options, StorageOptions(), RATES)


def row(found: MachinePlan, dtype: str, storage: str, screening: str) -> Any:
    (tier,) = [
        tier
        for tier in found.tiers
        if (tier.shards.dtype, tier.shards.on_disk, tier.screening) == (dtype, storage == "disk", screening)
    ]
    return tier


def test_seconds_follow_from_rates() -> None:
    found = plan()
    assert len(found.tiers) == 8
    shards = 16 * 32 // 4
    in_memory = row(found, "float32", "memory", "float32")
    assert (in_memory.shards.num_shards, in_memory.shards.num_threads, in_memory.disk) == (shards, 4, 0)
    share = -(-ROWS // shards)
    assert in_memory.load_s == pytest.approx(share / 1e6)
    assert in_memory.pass_s == pytest.approx(share / (2e6 / 2 * 4))
    assert row(found, "float32", "memory", "int8").pass_s == pytest.approx(share / (4e6 / 2 * 4))
    disk = row(found, "float32", "disk", "float32")
    assert disk.pass_s == pytest.approx(8 * share * DIM * 4 / 2**30)
    assert disk.disk_holds
    assert disk.load_s == pytest.approx(share / 1e6 + disk.disk / 2**30)
    assert found.driver_s == pytest.approx(20.0)
    assert in_memory.seconds(101, found.driver_s) == pytest.approx(in_memory.load_s + 101 * in_memory.pass_s + 20)


def test_what_does_not_fit_is_said() -> None:
    small = replace(MACHINES, memory="64GiB", disk="10GiB")
    found = plan(small)
    assert not row(found, "float32", "memory", "float32").fits
    assert row(found, "bfloat16", "disk", "float32").fits
    assert row(found, "bfloat16", "disk", "float32").disk_holds is False
    text = found.summary().text
    assert "does not fit these machines" in text
    assert text.count("TOO LARGE") >= 4 + 4
    assert found.summary().facts["fits"] is False
    roomy = plan(replace(small, disk="4TiB")).summary()
    assert "on disk" in roomy.headline
    assert "not known" in plan(replace(small, disk=None)).table()


def test_twice_the_machines_take_half_the_time() -> None:
    once, twice = plan(), plan(replace(MACHINES, nodes=32))
    for a, b in zip(once.tiers, twice.tiers, strict=True):
        assert b.pass_s == pytest.approx(a.pass_s / 2, rel=1e-6)
        assert b.memory <= a.memory


def test_gpus_are_another_place() -> None:
    found = plan(replace(MACHINES, gpus=8, gpu_memory="80GiB"))
    assert {tier.shards.device for tier in found.tiers} == {"cuda"}
    assert len(found.tiers) == 4
    assert "GPUs read rows at 1 TB/s: assumed, and measured nowhere." in found.table()
    assert all(tier.fits for tier in found.tiers)
    assert not all(tier.fits for tier in plan(replace(MACHINES, nodes=1, gpus=8, gpu_memory="80GiB")).tiers)


def test_days_are_told_as_days() -> None:
    found = plan(MachineSettings(1, 1, "4GiB"), rows=10**11)
    assert " days" in found.table()


def test_the_command_plans_for_machines_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = Files(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    paths = [f"pool.path={files.pool}", f"target.path={files.target}", f"run.dir={tmp_path}/run"]
    machines = ["++plan.nodes=16", "++plan.cpus=32", "++plan.memory=256GiB", "++plan.rows=1000000", "selection.n=5000"]
    load_job("curate").main(compose_job("curate", *paths, *machines))
    shown = capsys.readouterr().out
    assert "a run on 1,000,000 rows x 8 would take about" in shown
    assert "machines  16 with 32 CPUs and 256GiB" in shown
    assert "for 5,000 picks" in shown
    assert "Measured here, just now: " in shown
    assert "Assumed: " in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_a_percentage_is_one_of_the_rows_planned_for(tmp_path: Path) -> None:
    settings = Files(tmp_path).settings(selection={"n": "5%"})
    assert planned_elsewhere(settings, replace(MACHINES, rows=10_000)).num_picks == 500
    assert planned_elsewhere(settings, MACHINES).num_picks == 15


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("perhaps", r"plan='perhaps' cannot be used: give true or false, or plan\.nodes=16"),
        (3, "plan=3 cannot be used"),
        ({"nodes": 4}, r"plan\.cpus is not set"),
        ({"nodes": 4, "cpus": 8}, r"plan\.memory is not set"),
        ({"nods": 4}, r"no option plan\.nods: did you mean nodes"),
        ({"cpus": 8, "memory": "much"}, r"plan\.memory='much' cannot be used: give a size"),
        ({"cpus": 0, "memory": "1GiB"}, r"plan\.cpus=0"),
    ],
)
def test_what_machines_cannot_be(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CurationSettings(plan=value)


def test_a_switch_stays_one_and_machines_survive_yaml() -> None:
    for value in (True, False, {"cpus": 8, "memory": "64GiB"}):
        settings = from_yaml(to_yaml(CurationSettings(plan=value)), CurationSettings)
        assert settings.plan == value
        machines = machines_of(settings.plan)
        assert machines == (MachineSettings(1, 8, "64GiB") if isinstance(value, dict) else None)
    assert from_yaml("plan: 'true'", CurationSettings).plan is True
