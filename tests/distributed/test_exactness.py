"""The keystone at full size: dense reference == pool in this process == pool over Ray, for every way to split rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from ray_itl.core.baselines import BaselineRule, select_baseline
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool, Pool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.distributed.placement import ShardPlan
from ray_itl.distributed.ray_pool import RayPool
from ray_itl.shards.loading import STORAGE_DTYPES, load_shard
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.parquet import ParquetSource
from tests.core.helpers import ITL, RULES, Problem, Rule, clustered, shuffled_ids, with_copies

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.slow, pytest.mark.timeout(900)]

N, D, PICKS, NOISE = 5000, 32, 24, 0.1
BASELINES: list[BaselineRule] = ["nearest", "cosine", "random"]
TARGETS = Targets.uniform(clustered(20, D, seed=4))


def write_pool(folder: Path, rows: Tensor, ids: np.ndarray, num_files: int) -> ParquetSource:
    folder.mkdir()
    ends = np.linspace(0, len(ids), num_files + 1).round().astype(int)
    for number, (start, stop) in enumerate(pairwise(ends)):
        values = pa.array(rows[start:stop].numpy().reshape(-1))
        table = pa.table({"id": ids[start:stop], "embedding": pa.FixedSizeListArray.from_arrays(values, D)})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=700)
    return ParquetSource(build_manifest([str(folder)], Asked("id", "embedding")))


def picks_of(pool: Pool, rule: Rule | BaselineRule) -> list[int | str]:
    if isinstance(rule, Rule):
        acquisition = rule.acquisition(NOISE)
        state = acquisition.start(Posterior.prior(D), TARGETS)
        return [pick.row_id for pick in GreedySelector(pool, acquisition, state).select(PICKS).picks]
    acquisition = ITL.acquisition(NOISE)
    state = acquisition.start(Posterior.prior(D), TARGETS)
    return [p.row_id for p in select_baseline(pool, rule, TARGETS, PICKS, acquisition, state, seed=3).picks]


def all_picks(pool: Pool) -> dict[str, list[int | str]]:
    """Return what every rule picks."""
    return {rule.name: picks_of(pool, rule) for rule in RULES} | {rule: picks_of(pool, rule) for rule in BASELINES}


def dense_baseline(rule: str, rows: Tensor, ids: np.ndarray) -> list[int] | None:
    """The definition of nearest and cosine in float64; None for random, which is compared between pools only."""
    unit, towards = (torch.nn.functional.normalize(m.to(torch.float64), dim=1) for m in (rows, TARGETS.rows))
    cosines = (unit @ towards.mT).numpy()
    if rule == "cosine":
        return ids[np.lexsort((ids, -cosines.mean(axis=1)))[:PICKS]].tolist()
    if rule == "nearest":
        taken: list[int] = []
        for step in range(PICKS):
            order = np.lexsort((ids, -cosines[:, step % len(TARGETS.rows)]))
            taken.append(next(int(ids[i]) for i in order if int(ids[i]) not in taken))
        return taken
    return None


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_pool_gives_the_picks_of_the_definition(dtype: str, tmp_path: Path) -> None:
    rows = with_copies(clustered(N, D, seed=1, num_clusters=40), 0.02, seed=2).to(torch.float32)
    ids = shuffled_ids(N, 3)
    stored = rows.to(STORAGE_DTYPES[dtype])
    expected: dict[str, list] = {}
    for rule in RULES:
        problem = Problem(rule, stored, ids, TARGETS, NOISE)
        expected[rule.name] = problem.dense_ids(PICKS)
    order = np.random.default_rng(5).permutation(N)
    sources = {
        "as is": write_pool(tmp_path / "one", rows, ids, 1),
        "shuffled": write_pool(tmp_path / "many", rows[torch.from_numpy(order)], ids[order], 4),
    }
    for name, source in sources.items():
        local = LocalPool([load_shard(source, 0, N, Identity(), STORAGE_DTYPES[dtype])])
        for rule in BASELINES:
            # Cosines of float32 products tie where rows are copies; the definition breaks ties by id.
            expected.setdefault(rule, dense_baseline(rule, stored, ids) or picks_of(local, rule))
        for num_shards in (1, 2, 3, 7):
            with RayPool(source, Identity(), ShardPlan(num_shards, num_cpus=0.1, dtype=dtype)) as pool:
                pool.load()
                assert all_picks(pool) == expected, (name, num_shards)
        assert all_picks(local) == expected, (name, "in process")
