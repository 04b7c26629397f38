from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.many_shards import ShardsPoint, ShardsResult, run_shards, shards_table
from benchmarks.settings import ShardsSettings
from ray_itl.distributed import relay
from ray_itl.errors import ConfigError

SMALL = ShardsSettings(counts=[2, 1, 20], rows=300, dim=8, num_targets=4, n=64, repeats=1, many_rows=1000)


def _result(*driver_seconds: float, many_pass_seconds: float = 1.0) -> ShardsResult:
    counts = ((4, 4), (16, 16), (36, 6), (64, 8))
    points = [
        ShardsPoint(shards, calls, 8, 1.0, 0.1, seconds)
        for (shards, calls), seconds in zip(counts, driver_seconds, strict=True)
    ]
    return ShardsResult(points, 512, many_pass_seconds)


def test_calls_and_shards_are_told_apart() -> None:
    seconds = [0.01 + 0.001 * calls + 0.0001 * shards for shards, calls in ((4, 4), (16, 16), (36, 6), (64, 8))]
    result = _result(*seconds)
    assert result.costs == pytest.approx((0.001, 0.0001))
    assert result.share(512) == pytest.approx(0.5632)
    table = shards_table(result, SMALL)
    assert "A call costs the driver 1 ms, and what each shard says 0.1 ms." in table
    assert "the driver's part is 7.4% of a pass by 23 calls to groups; it would be 56.3% by a call to each" in table


def test_a_cost_below_nothing_is_noise() -> None:
    assert _result(0.02, 0.01, 0.01, 0.01).costs == (0.0, 0.0)


@pytest.mark.cluster
def test_every_number_of_shards_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "DIRECT", 2)
    result = run_shards(replace(SMALL, counts=[2, 1, 3], many=3), 0, tmp_path, lambda _: None)
    assert [(point.num_shards, point.num_calls) for point in result.points] == [(1, 1), (2, 2), (3, 2)]
    for point in result.points:
        assert point.passes >= 2
        assert point.own_seconds > 0
        assert point.driver_seconds > 0
    assert "| 3 | 2 | " in shards_table(result, SMALL)


@pytest.mark.parametrize("wrong", [{"counts": [4, 5]}, {"counts": []}, {"counts": [4, 4, 20]}, {"rows": 10}])
def test_options_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=r"shards\..* cannot be used"):
        replace(SMALL, **wrong)
