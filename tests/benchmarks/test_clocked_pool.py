from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.clocked_pool import OTHERS, PROPOSALS, START, VERIFICATION, Clock, ClockedShard, clocked
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Targets
from tests.core.helpers import ITL, SMALL, Problem, clustered, normal, picked, shuffled_ids


def test_a_call_within_another_counts_for_its_own_kind_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def work(seconds: float) -> float:
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr("time.process_time", lambda: 2 * now)
    clock = Clock()
    assert clock.time("whole", lambda: work(1) + clock.time("part", lambda: work(10)) + work(2)) == 1 + 11 + 13
    assert clock.seconds == {"whole": 3.0, "part": 10.0}
    assert clock.cpu_seconds == {"whole": 6.0, "part": 20.0}
    assert clock.calls == {"whole": 1, "part": 1}


def test_what_fails_is_counted_and_fails() -> None:
    clock = Clock()
    with pytest.raises(ZeroDivisionError):
        clock.time("whole", lambda: 1 / 0)
    assert clock.calls == {"whole": 1}
    clock.time("whole", lambda: None)
    assert clock.calls == {"whole": 2}


def test_a_clocked_pool_picks_the_same_and_every_call_is_counted() -> None:
    rows, targets = clustered(400, 8, 1).float(), Targets.uniform(normal(4, 8, 3))
    problem = Problem(ITL, rows, shuffled_ids(400, 2), targets, 0.1)
    within: list[str] = []

    @contextmanager
    def watch(kind: str) -> Iterator[None]:
        within.append(kind)
        yield

    clock = Clock(watch=watch)
    shard = ClockedShard(MemoryFeatures(problem.pool), problem.ids, 0)
    shard.clock = clock
    pool = clocked(LocalPool([shard]), clock)
    assert (pool.num_rows, pool.dim) == (400, 8)
    rule = ITL.acquisition(problem.noise)
    result = GreedySelector(pool, rule, rule.start(problem.posterior(), problem.targets), schedule=SMALL).select(20)
    assert picked(result) == problem.dense_ids(20)
    assert clock.calls[START] >= 1
    assert clock.calls[VERIFICATION] >= len(result.stats.blocks) > 1
    assert clock.calls[PROPOSALS] > clock.calls[VERIFICATION]  # one in every pass, and one before the first
    assert clock.calls[OTHERS] >= 1
    assert sum(clock.calls.values()) == len(within)
    assert set(clock.seconds) == {*within}
