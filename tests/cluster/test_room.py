"""What has room beside what, and what is said while there is none. No cluster."""

import pytest

from ray_itl.cluster.room import Reminder, RoomAsked, amounts, fit_beside, lacking, places_on, waiting_line

TWO = [{"CPU": 2.0, "memory": 8 * 2.0**30}]
GIB = 2.0**30


def asked(count=2, **needs) -> RoomAsked:
    return RoomAsked("shard", count, needs or {"CPU": 0.5, "GPU": 0.0}, "cluster.restart_deadline_s", 300)


def test_places_are_counted_by_what_is_scarcest():
    assert places_on(TWO, {"CPU": 0.5, "memory": 3 * GIB}) == 2
    assert places_on(TWO, {"CPU": 0.1, "memory": GIB}) == 8  # 20 by CPUs
    assert places_on([{"CPU": 0.3 - 1e-9}], {"CPU": 0.1}) == 3
    assert places_on([{}, {"CPU": 1.0}], {"CPU": 1.0, "GPU": 0.0}) == 1


@pytest.mark.parametrize(
    ("nodes", "groups", "fit"),
    [
        ([{"CPU": 1.0}], [(1, {"CPU": 0.5}), (1, {"CPU": 1.0})], False),
        ([{"CPU": 1.0}], [(1, {"CPU": 0.0}), (1, {"CPU": 1.0})], True),
        ([{"CPU": 1.5}], [(1, {"CPU": 0.5}), (1, {"CPU": 1.0})], True),
        ([{"CPU": 1.0}, {"CPU": 0.5}], [(1, {"CPU": 0.5}), (1, {"CPU": 1.0})], True),
        ([{"CPU": 0.75}, {"CPU": 0.75}], [(1, {"CPU": 0.5}), (1, {"CPU": 1.0})], False),
        ([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0}], [(2, {"CPU": 2.0}), (1, {"CPU": 4.0, "GPU": 1.0})], True),
        ([{"CPU": 4.0}], [(0, {"CPU": 9.0}), (4, {"CPU": 1.0})], True),
    ],
)
def test_groups_fit_beside_each_other(nodes, groups, fit):
    assert fit_beside(nodes, groups) == fit


def test_needs_in_words():
    assert amounts({"CPU": 0.5, "GPU": 0.0}) == "0.5 CPUs"
    assert amounts({"CPU": 1.0, "GPU": 2.0, "memory": GIB}) == "1 CPU, 2 GPUs and 1 GiB of memory"
    assert amounts({"CPU": 0.0}) == "no CPUs"


@pytest.mark.parametrize(
    ("ask", "free", "ours", "said"),
    [
        (asked(), [{"CPU": 0.0}], 0, "2 CPUs, of which 0 are free: others hold 2"),
        (asked(), [{"CPU": 0.5}], 0, "2 CPUs, of which 0.5 are free: others hold 1.5"),
        (asked(), [{"CPU": 0.0}], 1, "2 CPUs, of which 0 are free: others hold 1.5"),
        (asked(5), [{"CPU": 2.0}], 0, "2 CPUs in all"),
        (asked(1, GPU=1.0), [{"CPU": 2.0}], 0, "0 GPUs in all"),
        (asked(1, CPU=1.0, memory=6 * GIB), [{"CPU": 2.0, "memory": 4 * GIB}], 0, "others hold 4 GiB"),
    ],
)
def test_what_is_lacking_is_said(ask, free, ours, said):
    line = lacking(ask, TWO, free, ours)
    assert said in line
    assert "\n" not in line


def test_room_may_be_scattered_or_in_nodes_that_are_too_small():
    nodes = [{"CPU": 2.0}, {"CPU": 2.0}]
    assert "scattered" in lacking(asked(1, CPU=2.0), nodes, [{"CPU": 1.0}, {"CPU": 1.0}])
    assert "2 CPUs on its largest node" in lacking(asked(1, CPU=3.0), nodes, nodes)


def test_the_line_has_all_that_one_wants_to_know():
    line = waiting_line(asked(), lacking(asked(), TWO, [{"CPU": 0.0}]), 12.3)
    assert line == (
        "waiting for room on the cluster: 2 shards need 0.5 CPUs each, but the cluster has 2 CPUs, of which 0 are "
        "free: others hold 2 (waited 12 s of cluster.restart_deadline_s=300)"
    )


def test_it_is_said_at_once_and_then_ever_more_rarely():
    reminder = Reminder()
    said = [second for second in range(3600) if reminder.is_due(second)]
    assert said[:3] == [0, 10, 25]
    assert 20 < len(said) < 40
