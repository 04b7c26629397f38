"""On Ray the shards of a loaded pool stay, and come back where they are lost."""

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

import ray_itl
from ray_itl.core.many import selector
from ray_itl.errors import ShardError
from tests.loaded.cases import OPTIONS, TABLE, TARGET, check_same
from tests.loaded.test_select_many import QUERIES

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster", "small_blocks")]


@pytest.mark.parametrize("kind", ["files", "table"])
def test_every_selection_is_that_of_select(folder: Path, kind: str) -> None:
    pool = folder if kind == "files" else TABLE
    with ray_itl.open_pool(pool, num_shards=3) as loaded:
        for options in (*OPTIONS, OPTIONS[0]):
            check_same(loaded, pool, 12, **options)


def test_lost_shards_come_back_with_the_part_in_use(folder: Path) -> None:
    options = OPTIONS[6]
    with ray_itl.open_pool(folder, num_shards=2) as loaded:
        pool: Any = loaded._loaded.rows._opened.pool
        check_same(loaded, folder, 12, **options)
        for condition in (options, {}, options):
            os.kill(ray.get(pool._crew._processes.actors[1].pid.remote()), signal.SIGKILL)
            check_same(loaded, folder, 12, **condition)
        assert pool.rebuilds == 3


def test_a_lost_shard_whose_file_changed_ends_the_pool_in_one_line(folder: Path) -> None:
    with ray_itl.open_pool(folder, num_shards=2) as loaded:
        loaded.select(TARGET, 3)
        pq.write_table(TABLE.slice(150, 200), folder / "b.parquet")
        pool: Any = loaded._loaded.rows._opened.pool
        os.kill(ray.get(pool._crew._processes.actors[1].pid.remote()), signal.SIGKILL)
        with pytest.raises(ray_itl.InputError, match=r"b.parquet"):
            loaded.select(TARGET, 3)
        with pytest.raises(ShardError, match="closed"):
            loaded.select(TARGET, 3)


def test_many_queries_share_passes_of_the_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector, "_FETCHED", 32)
    options: dict[str, Any] = {"filter": "lang = 'en'", "columns": ["tokens"]}
    with ray_itl.open_pool(folder) as here:
        expected = here.select_many(QUERIES, 8, **options)
    with ray_itl.open_pool(folder, num_shards=2) as there:
        assert there.select_many(QUERIES, 8, **options).drop_columns(["gain"]).equals(expected.drop_columns(["gain"]))
        pool: Any = there._loaded.rows._opened.pool
        os.kill(ray.get(pool._crew._processes.actors[0].pid.remote()), signal.SIGKILL)
        found = there.select_many(QUERIES, 8, **options)
    assert found["id"].equals(expected["id"])
    assert pool.rebuilds == 1
