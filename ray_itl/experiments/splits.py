"""Cut tables into pool, target sample and held-out set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ray_itl.errors import ConfigError, InputError


class Split(NamedTuple):
    """Three tables of the same columns; every row of the source is in one of them or left out."""

    pool: pa.Table
    """The candidates."""
    target: pa.Table
    """A sample of the task."""
    heldout: pa.Table
    """What a model is judged by."""

    def check_disjoint(self) -> None:
        """Check that every part has rows, and every row an id of its own.

        Raises:
            InputError: a part is empty, repeats an id or shares one with another part.
        """
        sizes = [len(part) for part in self]
        ids = set().union(*(part["id"].to_pylist() for part in self))
        if 0 in sizes or len(ids) != sum(sizes):
            raise InputError(
                f"pool, target and held-out set ({', '.join(map(str, sizes))} rows) have {len(ids)} different ids: "
                "they overlap, or one is empty. Remove the prepared data set's folder to have it made again"
            )


def split_classes(pool: pa.Table, test: pa.Table, classes: tuple[int, ...], num_target: int, seed: int) -> Split:
    """Draw the target from the pool's rows of some classes; held out are the test rows of these classes."""
    target = sample_classes(pool, classes, num_target, np.random.default_rng(seed))
    heldout = take_rows(test, np.flatnonzero(np.isin(_values(test, "label"), classes)))
    return Split(_without(pool, target), take_rows(pool, target), heldout)


def split_rare_class(pool: pa.Table, test: pa.Table, label: int, removed: float, num_target: int, seed: int) -> Split:
    """Remove a share of one class's rows from the pool, then draw the target from those left.

    Held out are all test rows of the class and as many of the others.
    """
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(_values(pool, "label") == label)
    pool = _without(pool, rng.choice(inside, round(removed * len(inside)), replace=False))
    target = sample_classes(pool, (label,), num_target, rng)
    labels = _values(test, "label")
    inside, outside = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
    held = np.sort(np.concatenate([inside, rng.choice(outside, len(inside), replace=False)]))
    return Split(_without(pool, target), take_rows(pool, target), take_rows(test, held))


def split_one_class(table: pa.Table, label: int, num_target: int, num_heldout: int, seed: int) -> Split:
    """Draw the target and a held-out set, half of it of other classes, from one table; the rest is the pool.

    Rows whose text occurs twice stay in the pool.
    """
    rng = np.random.default_rng(seed)
    labels, unique = _values(table, "label"), _is_unique(_values(table, "text"))
    inside = rng.permutation(np.flatnonzero((labels == label) & unique))
    outside = rng.permutation(np.flatnonzero((labels != label) & unique))
    num_each = num_heldout // 2
    held = np.sort(np.concatenate([inside[:num_each], outside[:num_each]]))
    target = np.sort(inside[num_each : num_each + num_target])
    rest = _without(table, np.concatenate([held, target]))
    return Split(rest, take_rows(table, target), take_rows(table, held))


def draw_classes(table: pa.Table, count: int, least: int, seed: int) -> tuple[int, ...]:
    """Return some classes of a table, ascending, drawn from those that have at least so many texts that occur once."""
    sizes = np.bincount(_values(table, "label")[_is_unique(_values(table, "text"))])
    large = np.flatnonzero(sizes >= least)
    return tuple(sorted(np.random.default_rng((seed, 2)).choice(large, count, replace=False).tolist()))


def split_several_classes(
    table: pa.Table, classes: tuple[int, ...], num_target: int, num_heldout: int, seed: int
) -> Split:
    """Draw as many rows of each class for the target, and for the held-out set, from one table; the rest is the pool.

    Rows whose text occurs twice stay in the pool.

    Args:
        table: Rows of these classes and others.
        classes: C of them.
        num_target: Rows of the target in all, a multiple of C.
        num_heldout: Held-out rows in all, likewise.
        seed: Fixes the draws.
    """
    rng = np.random.default_rng(seed)
    labels, unique = _values(table, "label"), _is_unique(_values(table, "text"))
    of_each, held_of_each = num_target // len(classes), num_heldout // len(classes)
    target, held = [], []
    for label in classes:
        rows = rng.permutation(np.flatnonzero((labels == label) & unique))
        held.append(rows[:held_of_each])
        target.append(rows[held_of_each : held_of_each + of_each])
    parts = [np.sort(np.concatenate(rows)) for rows in (target, held)]
    return Split(_without(table, np.concatenate(parts)), *(take_rows(table, part) for part in parts))


def split_documents(table: pa.Table, topic: str, num_target: int, num_heldout: int, seed: int) -> Split:
    """Give whole documents of a topic to the held-out set until it has enough passages, then to the target.

    The target is a sample of its documents' passages. The pool is all passages of all other documents.

    Raises:
        ConfigError: there is no such topic, or it is too small.
    """
    topics, documents = _values(table, "topic"), _values(table, "document")
    chosen = topics == topic
    order = np.random.default_rng(seed).permutation(np.unique(documents[chosen]))
    rank = {name: position for position, name in enumerate(order)}
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort([rank[documents[row]] for row in rows], kind="stable")]
    first = _whole_documents(documents[rows], num_heldout)
    second = first + _whole_documents(documents[rows[first:]], num_target)
    if second - first < num_target:
        known = sorted(name for name in np.unique(topics).tolist() if not name.startswith("wordnet/"))
        raise ConfigError(
            f"task.options topic={topic} has {len(rows)} passages, too few for {num_heldout} held out "
            f"and {num_target} as target; "
            f"topics are {', '.join(known)}"
        )
    target = np.random.default_rng((seed, 1)).choice(rows[first:second], num_target, replace=False)
    pool = np.flatnonzero(~np.isin(documents, documents[rows[:second]]))
    parts = (pool, np.sort(target), np.sort(rows[:first]))
    return Split(*(take_rows(table, part) for part in parts))


def split_topic(
    table: pa.Table, topic: str, num_target: int, num_documents: int, per_document: int, seed: int
) -> Split:
    """Hold out a few passages of each of many documents of a topic; the target is a sample of others of its documents.

    The pool is all passages of all other documents: the rest of those held out, and of the target's, is left out.

    Raises:
        ConfigError: there is no such topic, or it is too small.
    """
    topics, documents = _values(table, "topic"), _values(table, "document")
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.unique(documents[topics == topic]))
    shuffled = rng.permutation(np.flatnonzero(topics == topic))
    held = [shuffled[documents[shuffled] == name][:per_document] for name in order[:num_documents]]
    rows, num_taken = np.empty(0, np.int64), num_documents
    while len(rows) < num_target and num_taken < len(order):
        rows = np.concatenate([rows, shuffled[documents[shuffled] == order[num_taken]]])
        num_taken += 1
    if len(rows) < num_target:
        raise ConfigError(
            f"topic {topic} has {len(order)} documents, too few for {num_documents} to hold out and {num_target} "
            "passages of others as target"
        )
    target = rng.choice(rows, num_target, replace=False)
    pool = np.flatnonzero(~np.isin(documents, order[:num_taken]))
    return Split(*(take_rows(table, part) for part in (pool, np.sort(target), np.sort(np.concatenate(held)))))


def sample_classes(table: pa.Table, classes: tuple[int, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of `count` random rows of some classes, in order."""
    return np.sort(rng.choice(np.flatnonzero(np.isin(_values(table, "label"), classes)), count, replace=False))


def take_rows(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return some rows of a table, by number."""
    return table.take(pa.array(rows))


def _without(table: pa.Table, rows: np.ndarray) -> pa.Table:
    return take_rows(table, np.setdiff1d(np.arange(len(table)), rows))


def _whole_documents(documents: np.ndarray, enough: int) -> int:
    """Return how many rows of documents in sequence hold at least `enough` rows and whole documents only."""
    if len(documents) <= enough:
        return len(documents)
    later = np.flatnonzero(documents != documents[enough - 1])
    later = later[later >= enough]
    return int(later[0]) if len(later) else len(documents)


def _values(table: pa.Table, column: str) -> np.ndarray:
    return table[column].to_numpy()


def _is_unique(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[inverse] == 1
