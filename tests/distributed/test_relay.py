"""Many shards are called by way of some of them: the same picks, whoever is lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.distributed import relay
from ray_itl.distributed.relay import group_shards
from tests.distributed.helpers import Fault, local_pool, make_rows, mortal_pool, picked, select, write_rows

ITL, NUM_ROWS, NUM_SHARDS = InformationGain(0.1), 1500, 5


@given(num_shards=st.integers(1, 5000))
def test_groups_are_all_shards_in_order_and_about_a_root_of_them(num_shards: int) -> None:
    groups = group_shards(num_shards)
    assert [index for group in groups for index in group] == list(range(num_shards))
    largest = max(len(group) for group in groups)
    assert (largest, len(groups)) == (1, num_shards) if num_shards <= 16 else largest + len(groups) <= 2 * largest + 1
    assert num_shards <= 16 or (largest - 1) ** 2 < num_shards


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory):
    return write_rows(tmp_path_factory.mktemp("pool"), make_rows(NUM_ROWS))


@pytest.fixture(scope="module")
def expected(source) -> list[int | str]:
    return picked(select(local_pool(source), ITL))


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_picks_are_the_same_by_way_of_others_whoever_is_lost(source, expected, tmp_path, monkeypatch) -> None:
    """Groups are shards 0 to 2, and 3 and 4: the first of a group dies, or another, before or after its work."""
    monkeypatch.setattr(relay, "DIRECT", 4)
    assert [len(group) for group in group_shards(NUM_SHARDS)] == [3, 2]
    calls, call = [], relay.Relay.call
    monkeypatch.setattr(relay.Relay, "call", lambda *given: calls.append(call(*given)) or calls[-1])
    times = []
    pool, doom = mortal_pool(source, tmp_path, NUM_SHARDS, on_pass=times.append)
    with pool:
        pool.load()
        assert picked(select(pool, ITL)) == expected
        assert pool.rebuilds == 0
        assert all([first for first, _ in replies] == [0, 3] for replies in calls)  # each is one reply of its group
        assert all(sum(time.num_rows for time in each) == NUM_ROWS for each in times)
        assert len(times) == len(calls) > 2
        for position, after in ((0, False), (300, True), (900, True), (1200, False)):
            before, deaths = pool.rebuilds, doom.deaths()
            doom.order(Fault("verify", position, call=2, after=after))
            assert picked(select(pool, ITL)) == expected
            assert doom.deaths() == 1, deaths
            assert pool.rebuilds > before
        calls.clear()
        doom.order(Fault("verify", 0, call=999))
        assert picked(select(pool, ITL)) == expected
        assert all([first for first, _ in replies] == [0, 3] for replies in calls)  # groups know their shards anew
