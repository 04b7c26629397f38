"""Sizes stay within their bounds, whatever happened to the blocks before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray_itl.core.block_schedule import BlockSchedule
from tests.core.helpers import few_examples


@few_examples
@given(outcomes=st.lists(st.tuples(st.integers(1, 64), st.integers(0, 64)), max_size=30))
def test_adapted_sizes_stay_within_their_bounds(outcomes: list[tuple[int, int]]) -> None:
    schedule = BlockSchedule()
    for size, accepted in outcomes:
        schedule = schedule.adapt(min(accepted, size), size)
        assert 8 <= schedule.block <= schedule.max_block
        assert BlockSchedule().candidates <= schedule.candidates <= schedule.max_candidates
        assert schedule.proposals >= 1


def test_blocks_grow_while_all_picks_stand_and_shrink_when_not() -> None:
    schedule = BlockSchedule(block=16, candidates=100, max_block=64, max_candidates=300)
    assert schedule.adapt(16, 16).block == 32
    assert schedule.adapt(16, 16).candidates == 100
    assert schedule.adapt(5, 16).block == 10
    assert schedule.adapt(5, 16).candidates == 200
    assert schedule.adapt(5, 16).adapt(0, 10).candidates == 300
    # The last block of a run is short; that it stood says nothing against long ones.
    assert schedule.adapt(1, 1).block == 16


def test_wide_rows_mean_fewer_candidates() -> None:
    fitted = BlockSchedule().fit(dim=4096, num_rows=10**7, max_bytes=2**25)
    assert fitted.candidates == fitted.max_candidates == fitted.max_challengers == 1024
    assert BlockSchedule().fit(dim=8, num_rows=2 * 10**6) == BlockSchedule()
    assert BlockSchedule().fit(dim=10**7, num_rows=10**7).candidates == 256


def test_a_small_pool_means_fewer_candidates() -> None:
    fitted = BlockSchedule().fit(dim=8, num_rows=320_000)
    assert (fitted.candidates, fitted.max_candidates) == (10_000, 32768)
    assert BlockSchedule().fit(dim=8, num_rows=20_000).candidates == 2048
    assert BlockSchedule().fit(dim=8, num_rows=12_000).candidates == 12_000  # held whole
    assert BlockSchedule(candidates=64).fit(dim=8, num_rows=100).candidates == 64


def test_a_large_pool_means_more_candidates_up_to_four_times_as_many() -> None:
    usual, fitted = BlockSchedule(), BlockSchedule().fit(dim=8, num_rows=2**22)
    assert (fitted.candidates, fitted.max_candidates) == (2 * usual.candidates, 2 * usual.max_candidates)
    assert fitted.focus == 2 * usual.focus
    assert BlockSchedule().fit(dim=8, num_rows=10**9).candidates == 4 * usual.candidates
    assert BlockSchedule().fit(dim=768, num_rows=10**9).max_candidates == 2**29 // (8 * 768)


def test_few_new_rows_are_asked_for_while_those_held_are_enough() -> None:
    schedule = BlockSchedule(candidates=160)
    assert schedule.proposals == 80
    assert schedule.adapt(16, 16).proposals == 20
    assert schedule.adapt(16, 16).adapt(5, 16).proposals == 160


def test_long_selections_share_a_pass_among_more_picks() -> None:
    schedule = BlockSchedule()
    assert [schedule.for_picks(n, 4096).max_block for n in (10, 1024, 2000, 10_000, 10**6)] == [64, 64, 125, 625, 1024]
    assert schedule.for_picks(10**6, 384).max_block == 96
    assert schedule.for_picks(10**6, 8).max_block == 64
    assert schedule.for_picks(10**6, 32768).max_block == 512
