"""Splits are disjoint, of the stated sizes, and the same for the same seed."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from ray_itl.errors import ConfigError, InputError
from ray_itl.experiments.splits import (
    Split,
    draw_classes,
    split_classes,
    split_documents,
    split_one_class,
    split_rare_class,
    split_several_classes,
    split_topic,
)

RNG = np.random.default_rng(0)
POOL = pa.table({"id": np.arange(2000), "label": RNG.integers(0, 10, 2000)})
TEST = pa.table({"id": np.arange(2000, 2500), "label": RNG.integers(0, 10, 500)})
GLOSSES = pa.table(
    {
        "id": [f"{number}n" for number in range(1000)],
        "label": RNG.integers(0, 4, 1000),
        "text": [f"gloss {number % 900}" for number in range(1000)],
    }
)
DOCUMENTS = RNG.integers(0, 120, 1500)
PASSAGES = pa.table(
    {
        "id": [f"passage {number}" for number in range(1500)],
        "topic": np.where(DOCUMENTS < 60, "bbc/tech", "brown/news").tolist(),
        "document": [f"document {number}" for number in DOCUMENTS],
    }
)
SPLITS: dict[str, Callable[[int], Split]] = {
    "classes": lambda seed: split_classes(POOL, TEST, (3, 6, 9), 30, seed),
    "rare": lambda seed: split_rare_class(POOL, TEST, 3, 0.7, 20, seed),
    "one": lambda seed: split_one_class(GLOSSES, 2, 20, 100, seed),
    "several": lambda seed: split_several_classes(GLOSSES, (0, 2), 20, 100, seed),
    "documents": lambda seed: split_documents(PASSAGES, "bbc/tech", 100, 150, seed),
    "topic": lambda seed: split_topic(PASSAGES, "bbc/tech", 50, 30, 4, seed),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_seed_makes_a_split(name: str) -> None:
    split = SPLITS[name](1)
    split.check_disjoint()
    assert split == SPLITS[name](1)
    assert not split.target.equals(SPLITS[name](2).target)
    for part in split:
        assert part.column_names == split.pool.column_names


def test_classes_of_a_pool_with_a_test_set() -> None:
    pool, target, heldout = SPLITS["classes"](0)
    assert (len(pool), len(target)) == (1970, 30)
    assert set(target["label"].to_pylist()) == set(heldout["label"].to_pylist()) == {3, 6, 9}
    assert len(heldout) == np.isin(TEST["label"].to_numpy(), (3, 6, 9)).sum()


def test_a_rare_class() -> None:
    pool, target, heldout = SPLITS["rare"](0)
    before = (POOL["label"].to_numpy() == 3).sum()
    assert (pool["label"].to_numpy() == 3).sum() == before - round(0.7 * before) - 20
    assert (pool["label"].to_numpy() != 3).sum() == len(POOL) - before
    assert set(target["label"].to_pylist()) == {3}
    assert (heldout["label"].to_numpy() == 3).mean() == 0.5
    assert (heldout["label"].to_numpy() == 3).sum() == (TEST["label"].to_numpy() == 3).sum()


def test_one_class_of_a_single_table() -> None:
    pool, target, heldout = SPLITS["one"](0)
    assert (len(pool), len(target), len(heldout)) == (880, 20, 100)
    assert set(target["label"].to_pylist()) == {2}
    assert (heldout["label"].to_numpy() == 2).sum() == 50
    outside = set(target["text"].to_pylist()) | set(heldout["text"].to_pylist())
    assert not outside & set(pool["text"].to_pylist())


def test_several_classes_have_as_many_rows_each() -> None:
    pool, target, heldout = SPLITS["several"](0)
    assert len(pool) == 880
    assert np.bincount(target["label"].to_numpy()).tolist() == [10, 0, 10]
    assert np.bincount(heldout["label"].to_numpy()).tolist() == [50, 0, 50]
    outside = set(target["text"].to_pylist()) | set(heldout["text"].to_pylist())
    assert not outside & set(pool["text"].to_pylist())


def test_classes_are_drawn_from_the_large_ones_by_the_seed() -> None:
    labels = np.repeat(np.arange(6), [50, 10, 50, 50, 50, 50])
    table = pa.table({"label": labels, "text": [f"text {number}" for number in range(len(labels))]})
    drawn = {draw_classes(table, 3, 40, seed) for seed in range(20)}
    assert len(drawn) > 5
    assert all(len(set(classes)) == 3 and 1 not in classes and list(classes) == sorted(classes) for classes in drawn)
    twice = pa.concat_tables([table, table])
    assert draw_classes(table, 3, 40, 7) == draw_classes(table, 3, 40, 7)
    with pytest.raises(ValueError):  # no text occurs once
        draw_classes(twice, 3, 1, 0)


def test_a_few_passages_of_many_documents_are_held_out() -> None:
    pool, target, heldout = SPLITS["topic"](0)
    documents = [set(part["document"].to_pylist()) for part in (pool, target, heldout)]
    assert len(set().union(*documents)) == sum(map(len, documents))
    assert len(documents[2]) == 30
    assert max(heldout["document"].to_pylist().count(name) for name in documents[2]) <= 4
    assert len(target) == 50
    assert set(target["topic"].to_pylist()) == set(heldout["topic"].to_pylist()) == {"bbc/tech"}
    assert "bbc/tech" in pool["topic"].to_pylist()
    with pytest.raises(ConfigError, match="bbc/tech has 60 documents, too few for 59"):
        split_topic(PASSAGES, "bbc/tech", 50, 59, 4, 0)


def test_documents_stay_whole() -> None:
    pool, target, heldout = SPLITS["documents"](0)
    documents = [set(part["document"].to_pylist()) for part in (pool, target, heldout)]
    assert len(set().union(*documents)) == sum(map(len, documents))
    assert len(target) == 100
    assert 150 <= len(heldout) < 150 + 30
    assert set(target["topic"].to_pylist()) == set(heldout["topic"].to_pylist()) == {"bbc/tech"}
    everywhere = PASSAGES["document"].to_pylist()
    assert len(pool) == sum(name in documents[0] for name in everywhere)
    assert len(heldout) == sum(name in documents[2] for name in everywhere)


@pytest.mark.parametrize("topic", ["bbc/none", "brown/news"])
def test_topics_that_cannot_be_split_are_named(topic: str) -> None:
    with pytest.raises(ConfigError, match=f"topic={topic} .*bbc/tech, brown/news"):
        split_documents(PASSAGES, topic, 600, 150, 0)


def test_overlap_and_empty_parts_are_found() -> None:
    one, other = POOL.slice(0, 10), POOL.slice(10, 5)
    for split in (Split(one, other, POOL.slice(14, 3)), Split(one, other, POOL.slice(0, 0))):
        with pytest.raises(InputError, match="different ids"):
            split.check_disjoint()
