"""Rows that cannot be used, found by shards on Ray: merged in the order of the pool, whatever the number of shards."""

from pathlib import Path

import numpy as np
import pytest

from ray_itl.api import select
from ray_itl.sources.bad_rows import BadRowsError
from tests.curation.spoiled import REASONS, spoiled_pool

pytestmark = pytest.mark.cluster
WRONG = {0: "NaN", 30: "null id", 49: "ragged", 50: "null", 77: "negative cost", 148: "null cost", 149: "empty"}


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_shards_pass_over_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    pool = spoiled_pool(tmp_path / "pool", WRONG)
    target = str(pool.files.target)
    limits = {"cost_column": "cost", "budget": 20.0, "quotas": {"kind": {"a": {"max": 5}}}}
    expected = select(str(pool.sound.pool), target, 10, **limits)
    for num_shards in (1, 3):
        options = {"num_shards": num_shards, "address": "local", "storage": storage, **limits}
        found = select(str(pool.files.pool), target, 10, on_bad_row="skip", **options)
        assert found.ids == expected.ids
        np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9)
        assert found.skipped is not None
        assert [tuple(row.values()) for row in found.skipped.to_pylist()] == pool.listed()
    options = {"num_shards": 3, "address": "local", "storage": storage}
    with pytest.raises(
        BadRowsError, match=r"^5 rows cannot be used: .*'part-0.parquet', row 0 .*'part-2.parquet', row 49"
    ):
        select(str(pool.files.pool), target, 10, **options)


def test_rows_in_memory_keep_their_reasons(tmp_path: Path) -> None:
    pool = spoiled_pool(tmp_path / "pool", WRONG)
    found = select(
        pool.whole, str(pool.files.target), 10, num_shards=2, address="local", on_bad_row="skip", cost_column="cost"
    )
    assert found.ids == select(pool.rest, str(pool.files.target), 10, cost_column="cost").ids
    assert found.skipped is not None
    listed = [(row["row"], row["reason"]) for row in found.skipped.to_pylist()]
    assert listed == [(row, REASONS[kind]) for row, kind in WRONG.items()]
