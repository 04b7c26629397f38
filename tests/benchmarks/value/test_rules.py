import numpy as np
import pytest

from benchmarks.value.corpus import unit
from benchmarks.value.rules import Candidates, Rule, distinct, pick_for_all
from ray_itl import open_pool, select
from ray_itl.errors import ConfigError, InputError

DRAW = np.random.default_rng(1)
ROWS = unit(DRAW.standard_normal((300, 6)))
ROWS[200:] = unit(ROWS[:100] + 0.01 * DRAW.standard_normal((100, 6)))
TARGETS = unit(DRAW.standard_normal((4, 6)))
ORIGINS = np.concatenate([np.arange(200), np.arange(100)])
AMONG = Candidates(ROWS, ORIGINS, ["a", "b", "c", "d"], TARGETS)


def picked(name: str, among: Candidates = AMONG, n: int = 12) -> list:
    with open_pool(among.rows) as loaded:
        return pick_for_all(Rule.parse(name), among, loaded, n, seed=0)


@pytest.mark.parametrize(
    "name", ["random", "nearest", "nearest@0.95", "vtl@10", "itl@0.5", "adam-vtl@1", "vtl@20@0.95"]
)
def test_a_name_is_read_and_written(name: str) -> None:
    assert Rule.parse(name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "near",
        "rds-random",
        "x-nearest",
        "vtl",
        "itl@0",
        "nearest@x",
        "itl@1e",
        "itl@e",
        "vtl@1 ",
        "random@0.9",
        "vtl@1@0",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no rule"):
        Rule.parse(name)


def test_nearest_rows_come_by_cosine_and_equal_ones_in_order() -> None:
    rows = np.concatenate([ROWS, ROWS[:5]])
    found = picked("nearest", Candidates(rows, np.arange(305), ["a"], rows[3][None]), 2)[0]
    assert found.rows == [3, 303]
    for own, target in zip(picked("nearest"), TARGETS, strict=True):
        order = sorted(range(300), key=lambda row: -float(ROWS[row].astype(float) @ target.astype(float)))
        assert own.rows == order[:12]


@pytest.mark.parametrize("most", [0.5, 0.85, 0.95])
def test_deduplicated_rows_are_those_of_the_definition(most: float) -> None:
    for own, target in zip(picked(f"nearest@{most}"), TARGETS, strict=True):
        kept: list[int] = []
        for row in np.argsort(-(ROWS.astype(float) @ target.astype(float)), kind="stable"):
            if all(float(ROWS[row].astype(float) @ ROWS[each].astype(float)) < most for each in kept):
                kept.append(int(row))
        assert own.rows == kept[:12]
        if most <= 0.95:
            assert own.alike == 0


def test_too_few_distinct_rows_are_an_error() -> None:
    assert len(distinct(ROWS, np.arange(300), 300, 0.1)) < 300
    with pytest.raises(InputError, match=r"less alike than 0\.1"):
        picked("nearest@0.1", n=200)


@pytest.mark.parametrize("name", ["vtl@10", "itl@1"])
def test_each_test_is_selected_for_as_it_would_be_alone(name: str) -> None:
    rule = Rule.parse(name)
    for own, target in zip(picked(name), TARGETS, strict=True):
        alone = select(ROWS, target[None], 12, acquisition=rule.kind, relative_noise=rule.noise, quiet=True)
        assert own.rows == alone.ids


def test_rows_alike_to_an_earlier_pick_can_be_passed_over_by_noise_too() -> None:
    plain, apart = picked("vtl@10"), picked("vtl@10@0.95")
    assert max(own.alike for own in plain) > 0
    assert [own.alike for own in apart] == [0] * 4
    assert Rule.parse("vtl@10@0.95").words == "VTL, noise 10, none like another at 0.95"
    with pytest.raises(InputError, match=r"less alike than 0\.1"):
        picked("vtl@10@0.1", n=200)


def test_random_picks_depend_on_the_test_alone() -> None:
    few = Candidates(ROWS, ORIGINS, ["c", "x"], TARGETS[2:])
    assert picked("random")[2].rows == picked("random", few)[0].rows
    assert picked("random", few)[0].rows != picked("random", few)[1].rows


def test_what_is_told_of_picks() -> None:
    target = ROWS[0]
    own = picked("nearest", Candidates(ROWS, ORIGINS, ["a"], target[None]), 20)[0]
    assert own.rows[:2] == [0, 200]
    assert own.unlike == pytest.approx(5 / 20)  # of 300 rows 15 are above the quantile
    assert own.opposite == 0
    assert own.copies == pytest.approx((20 - len(np.unique(ORIGINS[own.rows]))) / 20)
    assert own.alike >= own.copies
    drawn = picked("random", n=300)[0]
    assert drawn.opposite == pytest.approx((TARGETS[0].astype(float) @ ROWS.T.astype(float) < 0).mean())
    assert drawn.unlike == pytest.approx(0.95)
    assert drawn.copies == pytest.approx(1 / 3)
