import numpy as np
import pytest

from benchmarks.data import ClusteredRows
from benchmarks.engine import DRIVER, LOAD, STAGES, engine_table, run_engine
from benchmarks.settings import BenchmarkSettings, EngineSettings
from ray_itl.errors import ConfigError
from ray_itl.options.text import from_mapping

SMALL = EngineSettings(num_rows=13_000, dim=16, num_targets=8, n=12, noise_variances=[0.5], repeats=1, num_shards=0)


def test_the_engine_is_measured_beside_plain_greedy(tmp_path) -> None:
    said: list[str] = []
    (result,) = run_engine(SMALL, 0, tmp_path, said.append)
    assert result.plain_in_common == SMALL.n  # far from ties
    assert 2 <= result.passes <= SMALL.n
    assert min(result.seconds, result.plain_seconds, *result.bare.values(), *result.whole.values()) > 0
    assert set(result.bare) == {"float32", "bfloat16", "int8"}
    assert set(result.stages) == set(STAGES)
    assert all(result.stages[name] > 0 for name in (LOAD, "start", "proposals", "verification", DRIVER))
    assert np.isnan(result.ray_seconds)
    assert result.ray_agrees is None
    table = engine_table([result], SMALL)
    assert f"| 0.5 | {result.passes} |" in table
    assert "| - | 12 |" in table
    assert "| select(): load |" in table
    assert "| bare int8 products | verification / int8 |" in table
    assert said


def test_rows_are_the_same_for_any_number_of_them() -> None:
    rows = ClusteredRows(4, seed=1)
    few, many = rows.pool_tensor(10), rows.pool_tensor(200)
    assert few.equal(many[:10])
    assert not few.equal(ClusteredRows(4, seed=2).pool_tensor(10))


@pytest.mark.parametrize("wrong", [{"suite": "none"}, {"engine": {"num_rows": 0}}])
def test_options_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        from_mapping(wrong, BenchmarkSettings)
