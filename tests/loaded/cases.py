"""Options of selections by which a loaded pool is compared with one that is loaded each time."""

from typing import Any

import numpy as np
import pyarrow as pa

import ray_itl
from ray_itl import LoadedPool, Selection
from tests.helpers import clustered

NUM_ROWS = 400
ROWS = clustered(NUM_ROWS, seed=1)
TARGET = clustered(7, seed=2)
TABLE = pa.table(
    {
        "id": [f"row {number}" for number in np.random.default_rng(3).permutation(NUM_ROWS)],
        "embedding": list(ROWS),
        "lang": ["en", "de"] * (NUM_ROWS // 2),
        "tokens": np.arange(NUM_ROWS) % 37 + 1,
    }
)
SOME_IDS = TABLE.column("id").to_pylist()[:40]
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"filter": "lang = 'en'", "columns": ["tokens"]},
    {"filter": "lang = 'en' and tokens < 20", "exclude": SOME_IDS, "acquisition": "vtl"},
    {"filter": "tokens < 9", "acquisition": "nearest"},
    {"filter": "tokens < 9", "acquisition": "random"},
    {"filter": "tokens < 9", "explain": True, "share": 0.5},
    {"filter": "tokens > 9", "cost_column": "tokens", "budget": 150.0, "per_cost": True},
    {"quotas": {"lang": {"de": {"min": 5}}}, "known": clustered(5, seed=4)},
    {"min_distance": 0.05, "near_target": "exclude", "include": SOME_IDS[:3]},
    {"avoid": clustered(6, seed=5), "noise_variance": 0.5, "target_noise_variance": 0.0},
    {"replacement": True, "relative_noise": 0.1, "min_gain": 1e-4},
    {"filter": "lang = 'de'", "columns": ["tokens"]},
    {"filter": "tokens < 20", "min_similarity": "80%", "explain": True},
    {"filter": "tokens > 9", "heldout": ROWS[::5], "min_similarity": 0.1, "exclude": SOME_IDS},
)


def check_same(loaded: LoadedPool, pool: Any, n: int | str, **options: Any) -> Selection:
    """Assert that a loaded pool gives what `select` does; returns it."""
    found, expected = loaded.select(TARGET, n, **options), ray_itl.select(pool, TARGET, n, **options)
    rounded = ("gain", "margin", "similarity", "share")
    inexact = [name for name in expected.table.column_names if name.endswith(rounded)]
    assert found.table.drop_columns(inexact).equals(expected.table.drop_columns(inexact))
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9)
    np.testing.assert_allclose(found.remaining_uncertainty, expected.remaining_uncertainty, rtol=1e-9)
    told = ("num_rows", "num_picks", "noise_variance", "mean_squared_norm", "stop", "skipped_rows", "limits")
    told += ("heldout_rows", "min_similarity", "target_similarity", "repeats")
    assert {name: found.metrics.get(name) for name in told} == {name: expected.metrics.get(name) for name in told}
    return found
