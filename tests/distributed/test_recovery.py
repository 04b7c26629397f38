"""Shards are killed at every awkward moment; the picks stay the same."""

import os
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.limits import Limits
from ray_itl.core.messages import ExactSearch, Request, ScoreSpec
from ray_itl.core.posterior import Posterior
from ray_itl.core.similarity_floor import target_directions
from ray_itl.core.similarity_ranks import settle_floor
from ray_itl.distributed.policy import RecoveryPolicy
from ray_itl.distributed.shard_actor import ShardActor
from ray_itl.errors import ConfigError, InputError, ShardError
from tests.distributed.helpers import (
    DIM,
    Fault,
    assert_no_process_left,
    local_pool,
    make_rows,
    make_targets,
    mortal_pool,
    picked,
    ray_pool,
    select,
    write_rows,
)

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]
ITL, VTL = InformationGain(0.1), VarianceReduction(0.1)
NUM_ROWS = 1500
SECOND = NUM_ROWS // 2


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("pool"), make_rows(NUM_ROWS))


@pytest.fixture(scope="module")
def expected(source):
    return {rule.name: picked(select(local_pool(source), rule)) for rule in (ITL, VTL)}


@pytest.fixture(scope="module")
def mortal(cluster, source, tmp_path_factory):
    """Yield a pool of two shards and its Doom."""
    del cluster
    pool, doom = mortal_pool(source, tmp_path_factory.mktemp("doom"))
    with pool:
        pool.load()
        yield pool, doom


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (ITL, Fault("propose", SECOND)),
        (VTL, Fault("verify", 0, call=4)),
        (ITL, Fault("verify", SECOND, call=3, after=True)),
    ],
)
def test_picks_survive_a_kill_within_a_call(mortal, expected, rule, fault):
    pool, doom = mortal
    before = pool.rebuilds
    doom.order(fault)
    assert picked(select(pool, rule)) == expected[rule.name]
    assert doom.deaths() == 1
    assert pool.rebuilds > before


def test_picks_survive_kills_between_calls_and_on_rebuilding(mortal, expected):
    pool, doom = mortal
    doom.order(Fault("load", 0, after=True))
    killed = []

    def kill(progress):
        if progress.num_picked >= 6 and not killed:
            killed.append(doom.pid(0))
            os.kill(killed[-1], signal.SIGKILL)

    before = pool.rebuilds
    assert picked(select(pool, ITL, on_progress=kill)) == expected["itl"]
    assert doom.deaths() == 1
    assert pool.rebuilds >= before + 2


def test_champions_survive_a_kill_after_the_contest(mortal, source):
    pool, doom = mortal
    doom.order(Fault("tied_winners", SECOND, after=True))
    state = ITL.start(Posterior.prior(DIM), make_targets())
    start = ScoreSpec.of(ITL, state, "float64")
    search = ExactSearch(0, 0, state, torch.zeros(1, dtype=torch.float64))
    replies = []
    for each in (pool, local_pool(source, 2)):
        each.restore(start, np.empty(0, dtype=np.int64))
        held = each.propose(Request(8))
        gain = each.search_exactly(search)
        replies.append((sorted(held.positions.tolist()), gain, each.tied_winners(gain - 0.5).positions.tolist()))
    assert replies[0] == replies[1]
    assert len(replies[0][2]) == 2
    assert doom.deaths() == 1


def test_shards_that_are_rebuilt_keep_a_floor(mortal, source):
    """They find out themselves which rows are below it: no list of these travels."""
    pool, doom = mortal
    asked = target_directions(make_targets()), Fraction(4, 5), np.empty(0, dtype=np.int64)
    local = local_pool(source, 3)
    expected = settle_floor(local, *asked)
    doom.order(Fault("answer", SECOND, call=2))
    found = settle_floor(pool, *asked)
    assert doom.deaths() == 1
    assert (found.floor.limit, found.num_rows, found.num_left) == (expected.floor.limit, NUM_ROWS, NUM_ROWS // 5)
    limits = Limits(floor=found.floor)
    picks = picked(select(local, ITL, limits=limits))
    doom.order(Fault("verify", 0, call=2))
    assert picked(select(pool, ITL, limits=limits)) == picks
    assert doom.deaths() == 1
    assert picks != picked(select(local, ITL))


def test_ids_are_compared_although_a_shard_dies(tmp_path):
    ids = [f"row {i}" for i in [*range(100), 7, *range(200, 299)]]
    pool, doom = mortal_pool(write_rows(tmp_path / "pool", make_rows(200), ids), tmp_path)
    doom.order(Fault("id_parts", 100))
    with pool:
        pool.load()
        repeated, positions = pool.repeated_id() or (None, ())
    assert doom.deaths() == 1
    assert (repeated, list(positions)) == ("row 7", [7, 100])


def test_endless_deaths_end_the_pool(source, tmp_path):
    pool, doom = mortal_pool(source, tmp_path, num_cpus=1, policy=RecoveryPolicy(max_rebuilds=1))
    pool.load()
    doom.order(Fault("verify", SECOND, times=99))
    with pytest.raises(ShardError, match=r"shard 1 \(rows 750 to 1499\) was rebuilt 1 times"):
        select(pool, ITL)
    assert doom.deaths() == 2
    assert_no_process_left()


def test_a_shard_without_a_place_names_the_deadline(source):
    with pytest.raises(ConfigError, match=r"cluster\.restart_deadline_s=2 .*4 CPUs in all"):
        ray_pool(source, 2, num_cpus=2.5, policy=RecoveryPolicy(restart_deadline_s=2)).load()
    assert_no_process_left()


def test_rows_that_vanished_surface_as_input_error_on_rebuilding(tmp_path):
    source = write_rows(tmp_path / "pool", make_rows(NUM_ROWS))
    pool, doom = mortal_pool(source, tmp_path, num_shards=1)
    pool.load()
    doom.order(Fault("verify", 0))
    (tmp_path / "pool" / "pool.parquet").unlink()
    with pytest.raises(InputError, match=r"pool\.parquet"):
        select(pool, ITL)


def test_a_process_that_cannot_be_made_says_why(source):
    with pytest.raises(ShardError, match="no such library"):
        ray_pool(source, 1, policy=RecoveryPolicy(max_rebuilds=0), actor_class=UnmakeableActor).load()


@pytest.mark.slow
def test_picks_survive_the_loss_of_a_node(tmp_path):
    command = [sys.executable, "-m", "tests.distributed.node_loss", str(tmp_path / "pool")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert ran.returncode == 0, ran.stderr


class UnmakeableActor(ShardActor):
    def __init__(self) -> None:
        raise ImportError("no such library")
