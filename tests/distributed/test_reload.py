"""Living shards take other rows: as a new pool would hold them, whoever dies meanwhile."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.features import Identity
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.embedding.source import EmbeddedSource
from ray_itl.errors import ConfigError, InputError, ShardError
from ray_itl.shards.source_pool import SourcePool
from ray_itl.sources.parquet import ParquetSource
from ray_itl.sources.views import SubsetSource
from ray_itl.training.checkpoint import save_checkpoint
from tests.distributed import helpers
from tests.distributed.helpers import (
    DoomedSource,
    Fault,
    local_pool,
    make_rows,
    mortal_pool,
    picked,
    ray_pool,
    write_rows,
)
from tests.embedding.embedding_helpers import CNN, embedded, embedder, write_raw

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]
ITL, VTL = InformationGain(0.1), VarianceReduction(0.1)
NUM_ROWS = 400


def select(pool, rule):
    return helpers.select(pool, rule, n=16)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[ParquetSource]:
    """Return three pools of different rows, the last of fewer."""
    made = []
    for seed, size in enumerate((NUM_ROWS, NUM_ROWS, NUM_ROWS - 100)):
        made.append(write_rows(tmp_path_factory.mktemp("pool"), make_rows(size, seed)))
    return made


@pytest.fixture(scope="module")
def expected(sources) -> list[list]:
    found = [picked(select(local_pool(source), ITL)) for source in sources]
    assert found[0] != found[1] != found[2]
    return found


def test_a_local_pool_reloads(sources, expected):
    seen = []
    pool = SourcePool(sources[0], Identity(), num_shards=3, on_rows=seen.append)
    assert seen[-1] == NUM_ROWS
    assert picked(select(pool, ITL)) == expected[0]
    for source, picks in zip(sources[1:], expected[1:], strict=True):
        pool.reload(source)
        assert pool.num_rows == source.num_rows
        assert picked(select(pool, ITL)) == picks


def test_the_processes_live_on(sources, expected, tmp_path):
    pool, doom = mortal_pool(sources[0], tmp_path)
    with pool:
        pool.load()
        pids = [doom.pid(0), doom.pid(NUM_ROWS // 2)]
        assert picked(select(pool, ITL)) == expected[0]
        for source, picks in zip(sources[1:], expected[1:], strict=True):
            seen = []
            pool.reload(DoomedSource(source, doom), seen.append)
            assert seen[-1] == source.num_rows
            assert (pool.num_rows, pool.largest_norm()) == (source.num_rows, local_pool(source).largest_norm())
            assert picked(select(pool, ITL)) == picks
            assert [doom.pid(0), doom.pid(source.num_rows // 2)] == pids
        assert pool.rebuilds == 0


def test_a_kill_at_any_time_leaves_the_new_rows(sources, expected, tmp_path):
    """Before reloading, while the new rows are loaded, and in the first selection on them."""
    pool, doom = mortal_pool(sources[0], tmp_path)
    with pool:
        pool.load()
        assert picked(select(pool, VTL))  # a journal that would spoil the new rows if it were replayed
        os.kill(doom.pid(0), signal.SIGKILL)
        pool.reload(DoomedSource(sources[1], doom))
        assert picked(select(pool, ITL)) == expected[1]
        doom.order(Fault("load", (NUM_ROWS - 100) // 2, after=True))
        pool.reload(DoomedSource(sources[2], doom))
        assert doom.deaths() == 1
        doom.order(Fault("verify", 0, call=2))
        assert picked(select(pool, ITL)) == expected[2]
        assert doom.deaths() == 1
        assert pool.rebuilds >= 3


def test_pools_that_do_not_fit_are_refused_and_the_old_one_stays(sources, expected):
    with ray_pool(sources[0], 2) as pool, pytest.raises(ShardError, match="load it first"):
        pool.reload(sources[0])
    huge = SubsetSource(sources[0], np.arange(NUM_ROWS))
    huge.num_rows = 10**9
    with ray_pool(sources[0], 2) as pool:
        pool.load()
        with pytest.raises(ConfigError, match=r"cluster\.num_shards"):
            pool.reload(SubsetSource(sources[1], np.array([4])))
        with pytest.raises(ConfigError, match="reserved"):
            pool.reload(huge)
        assert picked(select(pool, ITL)) == expected[0]


def test_bad_rows_end_the_pool(sources, tmp_path):
    rows = make_rows(NUM_ROWS)
    rows[300, 2] = np.inf
    bad = write_rows(tmp_path, rows)
    with ray_pool(sources[0], 2) as pool:
        pool.load()
        with pytest.raises(InputError, match=r"pool\.parquet', row 300"):
            pool.reload(bad)
        with pytest.raises(ShardError, match="closed"):
            pool.reload(sources[0])


def test_shards_embed_again_with_a_new_checkpoint_although_one_dies(tmp_path: Path):
    """Rounds of training: every checkpoint gives the picks of a local pool, also when a shard is rebuilt from it."""
    base = write_raw(tmp_path / "raw", (150, 47))
    targets = Targets.uniform(torch.from_numpy(embedded(base, seed=9).embeddings(np.arange(5))))

    def source(round_: int) -> EmbeddedSource:
        path = tmp_path / f"round-{round_}.safetensors"
        save_checkpoint(CNN.build(round_), path)
        return EmbeddedSource(base, "image", embedder(CNN, str(path), kind="features"))

    def picks(pool) -> list:
        state = ITL.start(Posterior.prior(12), targets)
        schedule = BlockSchedule(block=4, candidates=16, max_candidates=32)
        return picked(GreedySelector(pool, ITL, state, schedule=schedule).select(20))

    first = source(0)
    local = SourcePool(first, Identity())
    found = [picks(local)]
    with ray_pool(first, 2) as pool:
        pool.load()
        assert picks(pool) == found[0]
        for round_ in (1, 2):
            again = source(round_)
            local.reload(again)
            if round_ == 2:
                os.kill(pool._crew.call("pid")[1], signal.SIGKILL)
            pool.reload(again)
            found.append(picks(local))
            assert picks(pool) == found[-1]
        assert pool.rebuilds >= 1
    assert found[0] != found[1] != found[2]
