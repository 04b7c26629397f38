from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scaling import LOCAL_SHARDS, NODES, RAY_SHARDS, render_scaling, run_scaling, scaling_table
from benchmarks.settings import BenchmarkSettings, ScalingSettings
from ray_itl.errors import ConfigError

SMALL = ScalingSettings(
    num_rows=13_000, dim=8, num_targets=4, n=10, repeats=1, local_shards=[1, 3], ray_shards=[], nodes=[], dims=[4, 8],
    picks=[5, 50], targets=[1, 20],
)  # fmt: skip


def test_one_thing_is_varied_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    points = run_scaling(SMALL, 0, tmp_path, lambda _: None)
    assert [(p.axis, p.value, len(p.picks)) for p in points] == [
        *((LOCAL_SHARDS, 1, 10), (LOCAL_SHARDS, 3, 10)),
        *(("picks", 5, 5), ("picks", 50, 50)),
        *(("targets", 1, 10), ("targets", 20, 10)),
        *(("dimensions", 4, 10), ("dimensions", 8, 10)),
    ]
    assert points[2].passes < points[3].passes
    assert points[2].picks == points[3].picks[:5]
    base = points[0].picks
    assert base == points[1].picks == points[-1].picks
    assert base not in (points[4].picks, points[6].picks)
    table = scaling_table(points, SMALL)
    assert table.count("| yes |") == 2
    assert "| NO |" not in table
    assert "| NO |" in scaling_table([points[0], replace(points[1], picks=[])], SMALL)
    page = render_scaling(points, SMALL, "this machine")
    assert page.count('class="figure"') == 4


def test_a_wide_pool_has_fewer_rows(tmp_path: Path) -> None:
    settings = replace(SMALL, local_shards=[], picks=[], targets=[], dims=[4, 8], wide=4, wide_rows=12)
    few = run_scaling(settings, 0, tmp_path, lambda _: None)
    assert max(few[1].picks) < 12 <= max(few[0].picks)
    assert "Above D = 4 the pool has 12 rows." in scaling_table(few, settings)
    assert "Above" not in scaling_table(few, SMALL)


@pytest.mark.slow
def test_shards_and_nodes_of_ray_pick_the_same(tmp_path: Path) -> None:
    settings = replace(SMALL, local_shards=[1], dims=[], picks=[], targets=[], ray_shards=[1, 2], nodes=[1, 2])
    points = run_scaling(settings, 0, tmp_path, lambda _: None)
    assert [p.axis for p in points] == [LOCAL_SHARDS, RAY_SHARDS, RAY_SHARDS, NODES, NODES]
    assert len({tuple(p.picks) for p in points}) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 14_000},
        {"picks": [10, 14_000]},
        {"dims": [9], "wide": 8, "wide_rows": 9},
        {"dims": [0]},
        {"nodes": [2, -1]},
    ],
)
def test_options_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"scaling\..* cannot be used"):
        BenchmarkSettings(scaling=replace(SMALL, **wrong))
