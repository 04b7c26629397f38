from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.many_shards import ShardsPoint, ShardsResult, run_shards, shards_table
from benchmarks.settings import ShardsSettings
from ray_itl.errors import ConfigError

SMALL = ShardsSettings(counts=[2, 1], rows=300, dim=8, num_targets=4, n=64, repeats=1, many_rows=1000)


def _result(*driver_seconds: float, many_pass_seconds: float = 1.0) -> ShardsResult:
    points = [ShardsPoint(4 ** (k + 1), 8, 1.0, 0.1, seconds) for k, seconds in enumerate(driver_seconds)]
    return ShardsResult(points, 512, many_pass_seconds)


def test_the_slope_is_that_of_the_driver_alone() -> None:
    result = _result(0.014, 0.026, 0.074)
    assert result.line == pytest.approx((0.001, 0.01))
    assert result.share == pytest.approx(0.512)
    assert "1 ms a pass on each shard, and 10 ms besides" in shards_table(result, SMALL)
    assert "51.2% of a pass: merging replies on each node first would be needed" in shards_table(result, SMALL)
    few = shards_table(_result(0.014, 0.026, 0.074, many_pass_seconds=10.0), SMALL)
    assert "5.1% of a pass: merging replies on each node first is not needed" in few


def test_a_line_that_falls_is_noise() -> None:
    assert _result(0.02, 0.01).share == 0.0


@pytest.mark.cluster
def test_every_number_of_shards_is_measured(tmp_path: Path) -> None:
    result = run_shards(SMALL, 0, tmp_path, lambda _: None)
    assert [point.num_shards for point in result.points] == [1, 2]
    for point in result.points:
        assert point.passes >= 2
        assert point.own_seconds > 0
        assert point.driver_seconds > 0
    assert "| 2 | " in shards_table(result, SMALL)


@pytest.mark.parametrize("wrong", [{"counts": [4]}, {"counts": []}, {"counts": [4, 4]}, {"rows": 10}])
def test_options_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"shards\..* cannot be used"):
        replace(SMALL, **wrong)
