"""Many queries at once: each gets the picks of its own selection, and bounds of what was not looked at hold."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.many import selector as selector_module
from ray_itl.core.many.best import BestRows
from ray_itl.core.many.selector import ManySelector
from ray_itl.core.messages import Precision
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.shard import PoolShard
from ray_itl.errors import ConfigError
from tests.helpers import clustered
from tests.oracle import dense_greedy

NUM_ROWS, DIM, N = 500, 8, 10
ROWS = torch.from_numpy(clustered(NUM_ROWS, 1))
EXCLUDED = np.array([3, 5, NUM_ROWS - 1])
KNOWN = torch.from_numpy(clustered(5, 77)).double()
TARGETS = [
    Targets(torch.from_numpy(clustered(m, 10 + m)).double(), torch.linspace(0.2, 1.5, m, dtype=torch.float64))
    for m in (1, 2, 3, 9, 20)
]
RULES = [InformationGain(0.3), InformationGain(1.0, 0.2), VarianceReduction(0.3)]


def pool_of(rows: Tensor, num_shards: int, ids: np.ndarray | None = None) -> LocalPool:
    ids = np.arange(len(rows)) if ids is None else ids
    parts = np.array_split(np.arange(len(rows)), num_shards)
    shards = [PoolShard(MemoryFeatures(rows[p[0] : p[-1] + 1]), ids[p[0] : p[-1] + 1], int(p[0])) for p in parts]
    return LocalPool(shards)


def posterior(known: Tensor | None, noise: float) -> Posterior:
    prior = Posterior.prior(DIM)
    return prior if known is None else prior.condition_on_rows(known, noise)


def check_each(rule: Acquisition, num_shards: int, known: Tensor | None, precision: Precision | None) -> ManySelector:
    start = posterior(known, rule.noise_variance)
    many = ManySelector(pool_of(ROWS, num_shards), rule, start, EXCLUDED, precision)
    found = list(many.select(TARGETS, N))
    assert [each.number for each in found] == list(range(len(TARGETS)))
    for each, targets in zip(found, TARGETS, strict=True):
        alone = GreedySelector(pool_of(ROWS, 1), rule, rule.start(start, targets), excluded=EXCLUDED).select(N)
        assert each.ids.tolist() == [pick.row_id for pick in alone.picks]
        assert each.positions.tolist() == [pick.position for pick in alone.picks]
        np.testing.assert_allclose(each.gains, [pick.gain for pick in alone.picks], rtol=1e-9)
    return many


@pytest.fixture(autouse=True)
def few_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were not fetched beat picks, several times."""
    monkeypatch.setattr(selector_module, "_FETCHED", 24)


@pytest.mark.parametrize("known", [None, KNOWN])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("precision", ["int8", "bfloat16", "float32", "float64"])
def test_every_query_gets_its_own_picks(rule: Acquisition, precision: Precision, known: Tensor | None) -> None:
    many = check_each(rule, 3, known, precision)
    assert many.stats.alone == 0
    assert many.stats.passes > 2


@pytest.mark.parametrize("rule", RULES)
def test_picks_are_those_of_the_dense_definition(rule: Acquisition) -> None:
    many = ManySelector(pool_of(ROWS, 2), rule, Posterior.prior(DIM), np.empty(0, dtype=np.int64))
    target_noise = getattr(rule, "target_noise_variance", None)
    for each, targets in zip(many.select(TARGETS[:3], N), TARGETS, strict=False):
        dense = dense_greedy(
            rule.name, ROWS.double(), np.arange(NUM_ROWS), targets, N, rule.noise_variance,
            **({} if target_noise is None else {"target_noise": target_noise}),
        )  # fmt: skip
        assert each.ids.tolist() == [pick.index for pick in dense]


def test_where_too_many_rows_beat_a_pick_queries_are_selected_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector_module, "_LIMIT", 1)
    monkeypatch.setattr(selector_module, "_MOST_PASSES", 2)
    assert check_each(RULES[0], 2, None, None).stats.alone > 0


@pytest.mark.parametrize("rule", [Uncertainty(0.5), InformationGain(0.5, 0.0), InformationGain(1e-12)])
def test_rules_that_share_nothing_go_one_by_one(rule: Acquisition) -> None:
    assert check_each(rule, 2, None, None).stats.alone == len(TARGETS)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector_module, "_MOST_QUERIES", 2)
    check_each(RULES[0], 2, None, None)


def test_copies_of_rows_tie_and_the_smaller_id_wins() -> None:
    rows, ids = torch.cat([ROWS[:60]] * 4), np.random.default_rng(0).permutation(240)
    rule = RULES[0]
    for each, targets in zip(
        ManySelector(pool_of(rows, 3, ids), rule, Posterior.prior(DIM), EXCLUDED[:0]).select(TARGETS, 12),
        TARGETS,
        strict=True,
    ):
        state = rule.start(Posterior.prior(DIM), targets)
        alone = GreedySelector(pool_of(rows, 1, ids), rule, state).select(12)
        assert each.ids.tolist() == [pick.row_id for pick in alone.picks]


@pytest.mark.parametrize("known", [None, KNOWN])
@pytest.mark.parametrize("rule", RULES)
def test_no_row_that_was_left_out_could_have_gained_more_than_its_bound(
    rule: Acquisition, known: Tensor | None
) -> None:
    start = posterior(known, rule.noise_variance)
    many = ManySelector(pool_of(ROWS, 2), rule, start, EXCLUDED, nearest=40)
    tight = 0.0
    for each, targets in zip(many.select(TARGETS, N), TARGETS, strict=True):
        assert each.bounds is not None
        state = rule.start(start, targets)
        first = rule.gain(state.scores(ROWS.double()))
        first[torch.from_numpy(EXCLUDED)] = -1.0
        left_out = torch.argsort(-first, stable=True)[40 : NUM_ROWS - len(EXCLUDED)]
        for position, gain, bound in zip(each.positions, each.gains, each.bounds, strict=True):
            assert int(position) not in left_out
            most = float(rule.gain(state.scores(ROWS.double()[left_out])).max())
            assert most <= bound * (1 + 1e-6)
            tight = max(tight, most / bound)
            assert float(rule.gain(state.scores(ROWS.double()[int(position)][None]))) == pytest.approx(gain, rel=1e-9)
            state = state.condition(ROWS.double()[int(position)])
    assert tight > 0.3, "a bound that is far above everything tells nothing"


def test_all_rows_looked_at_leave_nothing_out() -> None:
    many = ManySelector(pool_of(ROWS, 2), RULES[0], Posterior.prior(DIM), EXCLUDED, nearest=NUM_ROWS)
    assert all(not np.any(each.bounds) for each in many.select(TARGETS, N))


@pytest.mark.parametrize(("n", "nearest", "words"), [(0, None, "n=0"), (499, None, "497 rows"), (9, 5, "nearest=5")])
def test_numbers_out_of_range_are_refused(n: int, nearest: int | None, words: str) -> None:
    many = ManySelector(pool_of(ROWS, 1), RULES[0], Posterior.prior(DIM), EXCLUDED, nearest=nearest)
    with pytest.raises(ConfigError, match=words):
        list(many.select(TARGETS, n))


@pytest.mark.parametrize("count", [1, 7, 300])
def test_the_best_rows_of_each_query_are_found_in_any_chunks(count: int) -> None:
    scores = torch.rand(1000, 5, generator=torch.Generator().manual_seed(0))
    scores[::7] = -1.0
    best = BestRows(5, count)
    for first in range(0, 1000, 64):
        best.add(first, scores[first : first + 64])
    for query, (indices, found) in enumerate(best.result()):
        expected = torch.sort(scores[:, query], descending=True, stable=True)
        assert indices.tolist() == expected.indices[:count].tolist()
        assert np.array_equal(found, expected.values[:count].numpy())


@pytest.mark.parametrize("rule", RULES[:1])
def test_queries_in_turn_get_the_same_picks(rule: Acquisition) -> None:
    pool = pool_of(ROWS, 2)
    shared = ManySelector(pool, rule, Posterior.prior(DIM), EXCLUDED)
    in_turn = ManySelector(pool, rule, Posterior.prior(DIM), EXCLUDED, in_turn=True)
    both = [list(each.select(TARGETS, N)) for each in (shared, in_turn)]
    assert [each.ids.tolist() for each in both[0]] == [each.ids.tolist() for each in both[1]]
    assert (shared.stats.alone, in_turn.stats.alone) == (0, len(TARGETS))
