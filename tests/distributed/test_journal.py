"""A fresh shard restored from the journal answers exactly as the one that was there all along. No cluster."""

import numpy as np
import pytest
import torch

from ray_itl.core.acquisitions.base import Acquisition, AcquisitionState
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.messages import Block, ExactSearch, Request, RowBatch, ScoreSpec
from ray_itl.core.posterior import Posterior
from ray_itl.core.shard import PoolShard
from ray_itl.distributed.journal import Journal
from ray_itl.errors import StaleShardError
from tests.distributed.helpers import DIM, make_rows, make_targets

NUM_ROWS = 600
RULES = [InformationGain(0.1), VarianceReduction(0.1), Uncertainty(0.1)]


class Driver:
    """Plays a driver that makes random but valid moves, and records them."""

    def __init__(self, rule: Acquisition, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.rows = make_rows(NUM_ROWS)
        self.rule = rule
        self.state = rule.start(Posterior.prior(DIM), make_targets())
        self.journal = Journal()
        self.shard = self.fresh()
        self.sequence = self.size = 0
        self.block_states: list[AcquisitionState] = []
        self.held = np.empty(0, dtype=np.int64)
        start = ScoreSpec.of(rule, self.state, "float64")
        self.shard.start(start)
        self.shard.replay(None, 0)
        self.journal.restored(start, self.held)

    def fresh(self) -> PoolShard:
        features = torch.from_numpy(self.rows.copy())
        return PoolShard(MemoryFeatures(features), np.random.default_rng(3).permutation(NUM_ROWS), 1000)

    def rebuilt(self) -> PoolShard:
        shard = self.fresh()
        recovery = self.journal.recovery()
        assert recovery is not None
        recovery.apply(shard)
        return shard

    def settle(self) -> int:
        """Accept a random part of the last block, and tell the journal."""
        accepted = int(self.rng.integers(0, self.size + 1))
        if accepted:
            self.state = self.block_states[accepted - 1]
        self.size = 0
        self.journal.settle(self.sequence, accepted)
        return accepted

    def block(self) -> Block:
        accepted = self.settle()
        self.size = int(self.rng.integers(1, 7))
        columns, values, self.block_states, state = [], [], [], self.state
        for index in self.rng.choice(NUM_ROWS, self.size):
            row = torch.from_numpy(self.rows[index].astype("float64"))
            scores = state.scores(row[None])
            columns.append(state.columns(row))
            values.append(float(self.rule.gain(scores)))
            state = state.condition(row)
            self.block_states.append(state)
        released = self.rng.choice(self.held, len(self.held) // 3, replace=False)
        limit = int(self.rng.integers(1, 60))
        return Block(
            self.sequence,
            accepted,
            torch.stack(columns, 2),
            torch.tensor(values, dtype=torch.float64),
            released,
            int(self.rng.integers(0, 9)),
            limit,
            self.state,
        )

    def verify(self) -> None:
        block = self.block()
        other = self.rebuilt().verify(block)
        report = self.shard.verify(block)
        assert report.verified_steps == other.verified_steps
        assert_same(report.challengers, other.challengers)
        assert_same(report.proposals, other.proposals)
        taken = np.concatenate([report.challengers.positions, report.proposals.positions])
        self.held = np.union1d(np.setdiff1d(self.held, block.released), taken)
        self.journal.verified(block, taken)
        self.sequence += 1

    def propose(self) -> None:
        other = self.rebuilt().propose(Request(5))
        batch = self.shard.propose(Request(5))
        assert_same(batch, other)
        self.take(batch)

    def search_exactly(self) -> None:
        accepted = self.settle()
        search = ExactSearch(self.sequence, accepted, self.state, torch.zeros(1, dtype=torch.float64))
        other = self.rebuilt().search_exactly(search)
        peak = self.shard.search_exactly(search)
        assert peak == pytest.approx(other, rel=1e-12)
        self.journal.searched(search)
        self.sequence += 1
        again = self.rebuilt().tied_winners(peak - 1e-9)
        batch = self.shard.tied_winners(peak - 1e-9)
        assert len(batch) == 1
        assert_same(batch, again)
        self.take(batch)

    def take(self, batch: RowBatch) -> None:
        self.held = np.union1d(self.held, batch.positions)
        self.journal.took(batch.positions)


def assert_same(a: RowBatch, b: RowBatch) -> None:
    assert a.positions.tolist() == b.positions.tolist()
    assert a.ids.tolist() == b.ids.tolist()
    torch.testing.assert_close(a.scores, b.scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("seed", range(4))
def test_a_rebuilt_shard_answers_like_the_surviving_one(rule, seed):
    driver = Driver(rule, seed)
    moves = [driver.verify, driver.verify, driver.propose, driver.search_exactly]
    for _ in range(15):
        moves[driver.rng.integers(len(moves))]()
    rebuilt = driver.rebuilt()
    assert torch.equal(rebuilt.held, driver.shard.held)
    torch.testing.assert_close(rebuilt._started.tracked, driver.shard._started.tracked, rtol=1e-9, atol=1e-12)


def test_the_journal_forgets_what_came_before_a_restore():
    driver = Driver(RULES[0], 0)
    driver.verify()
    start = ScoreSpec.of(driver.rule, driver.state, "float64")
    driver.journal.restored(start, np.array([1003]))
    recovery = driver.journal.recovery()
    assert recovery is not None
    assert (recovery.columns, recovery.sequence, recovery.last) == (None, 0, None)
    assert recovery.held.tolist() == [1003]


def test_blocks_out_of_order_are_refused():
    assert Journal().recovery() is None
    with pytest.raises(StaleShardError):
        Journal().settle(0, 0)
    driver = Driver(RULES[0], 0)
    driver.verify()
    with pytest.raises(StaleShardError, match="expects block 1, got block 2"):
        driver.journal.settle(2, 0)
