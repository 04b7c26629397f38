"""Pools on disk give the picks of pools in memory and of the dense reference, also when shards are killed."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.messages import ExactSearch, ScoreSpec
from ray_itl.core.posterior import Posterior
from ray_itl.core.ranking import RankQuery
from ray_itl.core.screening.copies import copy_bytes
from ray_itl.distributed.journal import Recovery
from ray_itl.errors import CacheError, ConfigError
from ray_itl.io.atomic import TEMPORARY_SUFFIX
from ray_itl.shards.disk_copies import COPY
from ray_itl.shards.disk_features import DiskFeatures
from ray_itl.shards.disk_loading import CacheOptions
from ray_itl.shards.loading import STORAGE_DTYPES
from ray_itl.sources.parquet import ParquetSource
from tests.distributed.helpers import (
    DIM,
    Fault,
    local_pool,
    make_rows,
    make_targets,
    mortal_pool,
    picked,
    ray_pool,
    select,
    write_rows,
)
from tests.oracle import dense_greedy

ITL, VTL = InformationGain(0.1), VarianceReduction(0.1)
NUM_ROWS = 700


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("pool"), make_rows(NUM_ROWS))


@pytest.fixture
def cache(source, tmp_path):
    return CacheOptions(source.manifest.fingerprint, str(tmp_path / "cache"), 1 << 24)


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_itl.core.feature_store.chunk_rows_for", lambda _: 64)


def reference(source, rule, dtype, n):
    ids, rows = map(np.concatenate, zip(*source.batches(0, source.num_rows), strict=True))
    stored = torch.from_numpy(rows).to(STORAGE_DTYPES[dtype]).to(torch.float64)
    noise = rule.noise_variance
    picks = dense_greedy(rule.name, stored, ids, make_targets(), n, noise, noise, None, False)
    return ids[[pick.index for pick in picks]].tolist()


_QUICK = [("float32", ITL), ("float16", VTL)]
_ALL = [
    pytest.param(dtype, rule, id=f"{dtype}-{rule.name}", marks=[] if (dtype, rule) in _QUICK else [pytest.mark.slow])
    for dtype in STORAGE_DTYPES
    for rule in (ITL, VTL)
]


@pytest.mark.parametrize(("dtype", "rule"), _ALL)
def test_reference_memory_and_disk_pick_the_same(source, cache, monkeypatch, dtype, rule):
    small_chunks(monkeypatch)
    expected = reference(source, rule, dtype, 25)
    assert picked(select(local_pool(source, 2, dtype), rule, 25)) == expected
    result = select(local_pool(source, 3, dtype, cache), rule, 25)
    assert picked(result) == expected
    assert len(result.stats.blocks) > 2


def test_rankings_and_contests_on_disk_are_those_in_memory(source, cache, monkeypatch):
    small_chunks(monkeypatch)
    memory, disk = local_pool(source, 2), local_pool(source, 2, cache=cache)
    directions = torch.nn.functional.normalize(make_targets().rows, dim=1)
    for query in (RankQuery("cosine", directions, 5), RankQuery("random", directions[:1], 20, seed=3)):
        found, expected = disk.rank(query), memory.rank(query)
        assert all(np.array_equal(a, b) for a, b in zip(found.lists, expected.lists, strict=True))
        assert torch.equal(found.rows.features, expected.rows.features)
    state = ITL.start(Posterior.prior(DIM), make_targets())
    search = ExactSearch(0, 0, state, torch.zeros(1, dtype=torch.float64))
    peaks = []
    for pool in (memory, disk):
        pool.restore(ScoreSpec.of(ITL, state, "float64"), np.empty(0, dtype=np.int64))
        gain = pool.search_exactly(search)
        peaks.append((gain, pool.tied_winners(gain - 0.5).ids.tolist()))
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
@pytest.mark.parametrize("rule", [ITL, VTL])
def test_copies_on_disk_are_what_passes_read(source, cache, monkeypatch, rule, precision):
    small_chunks(monkeypatch)
    pool = local_pool(source, 2, cache=replace(cache, copy_bytes=copy_bytes(precision, DIM)))
    passes, true_chunks = [], DiskFeatures.chunks
    monkeypatch.setattr(DiskFeatures, "chunks", lambda self: passes.append(self.dtype) or true_chunks(self))
    result = select(pool, rule, 25, screening=precision)
    assert picked(result) == reference(source, rule, "float32", 25)
    assert passes.count(torch.float32) == 2  # each shard's rows, once, for their copies
    assert passes.count(getattr(torch, precision)) == 2 * result.stats.passes
    folder = Path(cache.folder)
    copies = [path / COPY for path in folder.iterdir() if path.suffix == TEMPORARY_SUFFIX]
    assert len(copies) == 2
    assert sum(path.stat().st_size for path in copies) > NUM_ROWS * DIM  # what they take counts
    del pool
    assert not [path for path in folder.iterdir() if path.suffix == TEMPORARY_SUFFIX]


def test_copies_that_find_no_room_are_known_before_a_row_is_read(source, cache, monkeypatch):
    monkeypatch.setattr(ParquetSource, "batches", lambda *_: pytest.fail("rows were read"))
    with pytest.raises(ConfigError, match=r"cluster\.cache_limit=.*raise it"):
        local_pool(source, 1, cache=replace(cache, copy_bytes=1 << 20))


@pytest.mark.parametrize("picks", [0, 200])
def test_rebuilding_reads_the_features_once_and_once_for_earlier_picks(source, cache, monkeypatch, picks):
    """Reads are what a pass costs on disk: all scores share one, and so do all earlier picks."""
    pool = local_pool(source, 1, cache=cache)
    store = pool._shards[0].features
    calls, true_chunks = [], store.chunks
    monkeypatch.setattr(store, "chunks", lambda: calls.append(1) or true_chunks())
    state = VTL.start(Posterior.prior(DIM), make_targets())
    columns = torch.zeros(DIM, 2, picks, dtype=torch.float64)
    start = ScoreSpec.of(VTL, state, "float32")
    Recovery(start, columns, 0, np.empty(0, dtype=np.int64), last=None).apply(pool._shards[0])
    assert len(calls) == 1 + (picks > 0)


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_shards_on_disk_pick_the_same_although_they_are_killed(source, cache, tmp_path):
    expected = reference(source, ITL, "float16", 40)
    with_copies = replace(cache, copy_bytes=copy_bytes("int8", DIM))
    pool, doom = mortal_pool(source, tmp_path, dtype="float16", cache=with_copies)
    with pool:
        pool.load()
        doom.order(Fault("verify", NUM_ROWS // 2, call=3, after=True))
        killed = []

        def kill(progress):
            if progress.num_picked >= 6 and not killed:
                killed.append(doom.pid(0))
                os.kill(killed[-1], signal.SIGKILL)

        assert picked(select(pool, ITL, 40, on_progress=kill, screening="int8")) == expected
        assert (doom.deaths(), len(killed)) == (1, 1)
        assert pool.rebuilds >= 2
        with pytest.raises(ConfigError, match=r"pool\.storage=memory"):
            pool.reload(source)
    folders = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    copies = [path / COPY for path in folders if path.suffix == TEMPORARY_SUFFIX]
    assert len(folders) - len(copies) == 2
    assert sum(path.stat().st_blocks for path in copies) == 0  # of processes that were killed nothing is left


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_a_shard_without_room_on_disk_says_so(source, tmp_path):
    (tmp_path / "file").touch()
    pool = ray_pool(source, 2, cache=CacheOptions("x", str(tmp_path / "file" / "cache")))
    with pytest.raises(CacheError, match=r"cluster\.cache_dir"):
        pool.load()
