"""Tasks of the experiments: from a prepared data set and a seed to a pool, a target sample and a held-out set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from ray_itl.errors import ConfigError
from ray_itl.experiments import cifar10, digits, mnist, passages, wordnet
from ray_itl.experiments.cache import Notify, make_folder, silent, write_rows
from ray_itl.experiments.passages import BBC_TOPICS
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
from ray_itl.io.atomic import write_json

VERSION = 1
"""Of the splits: code that cuts otherwise takes another number, and so another folder."""
_DONE = "task.json"


@dataclass(frozen=True)
class Task:
    """Three Parquet files with the same columns and no id in common, and how to read them.

    `pool` holds the candidates; `target` a sample of what the model should learn about, to be used without labels;
    `heldout` is what the model is judged by. `input_column` is what a model reads; `embedding_column` holds frozen
    features to select by, or is None where the model gives its own.

    A row is on task if its value in `label_column` is one of `classes`. Where there are several classes the held-out
    set has these only. Where there is one, it has to be told from the rest: half of the held-out set is of other
    classes. Passages have no labels to learn, and the held-out ones are all of the topic.
    """

    name: str
    seed: int
    pool: Path
    target: Path
    heldout: Path
    input_column: str
    embedding_column: str | None
    label_column: str
    classes: tuple[int, ...] | tuple[str, ...]
    id_column: str = "id"


def mnist_task(cache: Path, seed: int, notify: Notify = silent, fashion: bool = False) -> Task:
    """Return the paper's task on MNIST: digits 3, 6 and 9.

    Target: 30 training images of these digits; pool: the other 59,970 training images; held out: the 2,977 test
    images of these digits. `fashion` takes the same classes of Fashion-MNIST (3,000 held out).

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    name, prepare = ("fashion-mnist", mnist.prepare_fashion) if fashion else ("mnist", mnist.prepare)
    classes = (3, 6, 9)

    def split() -> Split:
        folder = prepare(cache, notify)
        pool, test = (pq.read_table(folder / f"{part}.parquet") for part in ("pool", "test"))
        return split_classes(pool, test, classes, 30, seed)

    folder = _write_once(cache, f"{name}-{mnist.VERSION}", seed, split, notify)
    return _task(name, seed, folder, "image", None, "label", classes)


def cifar10_task(cache: Path, seed: int, notify: Notify = silent, rare: bool = False) -> Task:
    """Return a task on frozen features of CIFAR-10: the vehicles (0, 1, 8, 9), or a rare class.

    Target: 100 training images; pool: the other 49,900 training images; held out: the 4,000 test images of vehicles.

    `rare`: class 3 (cat) after 90% of its training images were removed. Target: 100 of the 500 left; pool: 45,400
    images with 400 cats; held out: the 1,000 test images of cats and 1,000 of other classes.

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    name, classes = ("cifar10-rare", (3,)) if rare else ("cifar10", (0, 1, 8, 9))

    def split() -> Split:
        folder = cifar10.prepare(cache, notify)
        pool, test = (pq.read_table(folder / f"{part}_features.parquet") for part in ("pool", "test"))
        if rare:
            return split_rare_class(pool, test, classes[0], 0.9, 100, seed)
        return split_classes(pool, test, classes, 100, seed)

    folder = _write_once(cache, f"{name}-{cifar10.VERSION}", seed, split, notify)
    return _task(name, seed, folder, "embedding", "embedding", "label", classes)


def wordnet_task(cache: Path, seed: int, notify: Notify = silent, class_name: str = "noun.body") -> Task:
    """Return the task to tell one lexicographer class of WordNet (body parts: 1.7% of all) from the others.

    Target: 100 glosses of the class; held out: 400 others of the class and 400 of other classes; pool: the rest,
    116,759 glosses. No text of target or held-out set occurs twice.

    Raises:
        InputError: the data cannot be had (says what to do).
        ConfigError: there is no such class (names those there are).
    """
    if class_name not in wordnet.CLASSES:
        raise ConfigError(
            f"task.options class_name={class_name} is no class of WordNet: use one of {', '.join(wordnet.CLASSES)}"
        )
    label = wordnet.CLASSES.index(class_name)

    def split() -> Split:
        table = pq.read_table(wordnet.prepare(cache, notify) / "pool.parquet")
        return split_one_class(table, label, 100, 800, seed)

    name = f"wordnet-{class_name}"
    folder = _write_once(cache, f"{name}-{wordnet.VERSION}", seed, split, notify)
    return _task(name, seed, folder, "embedding", "embedding", "label", (label,))


def wordnet_many_task(cache: Path, seed: int, notify: Notify = silent) -> Task:
    """Return the task to tell four lexicographer classes of WordNet from each other, which the seed draws.

    They are drawn from the 38 of 45 classes that have at least 400 glosses that occur once, and are from 0.3 to 12% of
    all each. Target: 12 glosses of each; held out: 100 others of each; pool: the rest, 117,211 glosses.

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    table = pq.read_table(wordnet.prepare(cache, notify) / "pool.parquet")
    classes = draw_classes(table, 4, 400, seed)
    folder = _write_once(
        cache,
        f"wordnet-many-{wordnet.VERSION}",
        seed,
        lambda: split_several_classes(table, classes, 48, 400, seed),
        notify,
    )
    return _task("wordnet-many", seed, folder, "embedding", "embedding", "label", classes)


def passages_task(cache: Path, seed: int, notify: Notify = silent, topic: str = "bbc/tech") -> Task:
    """Return the task to model passages of one topic: bbc/TOPIC or brown/GENRE.

    Target: 200 passages; held out: at least 300 passages of the topic; pool: all passages of other documents, some
    160,000. No document is in two of the three: other passages of the target's documents are left out.

    Raises:
        InputError: the data cannot be had (says what to do).
        ConfigError: there is no such topic, or it is too small (names those there are).
    """

    def split() -> Split:
        table = pq.read_table(passages.prepare(cache, notify) / "passages.parquet")
        return split_documents(table, topic, 200, 300, seed)

    name = f"passages-{topic.replace('/', '-')}"
    folder = _write_once(cache, f"{name}-{passages.VERSION}", seed, split, notify)
    return _task(name, seed, folder, "text", "embedding", "topic", (topic,))


def topics_task(cache: Path, seed: int, notify: Notify = silent) -> Task:
    """Return the task to model passages of one of the five topics of BBC News: that of the seed, in turn.

    Seeds 0 to 4 are the topics in alphabetical order, 5 to 9 the same topics with other documents, and so on. Target:
    50 passages; held out: up to 4 passages of each of 40 documents; pool: those of all other documents, some 160,000.

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    topic = BBC_TOPICS[seed % len(BBC_TOPICS)]

    def split() -> Split:
        table = pq.read_table(passages.prepare(cache, notify) / "passages.parquet")
        return split_topic(table, topic, 50, 40, 4, seed)

    folder = _write_once(cache, f"topics-{passages.VERSION}", seed, split, notify)
    return _task("topics", seed, folder, "text", "embedding", "topic", (topic,))


def digits_task(cache: Path, seed: int, notify: Notify = silent) -> Task:
    """Return the digits 3, 6 and 9 of scikit-learn's: 30 targets, a pool of 1,317, and their test images held out."""
    classes = (3, 6, 9)
    folder = _write_once(
        cache, f"digits-{digits.VERSION}", seed, lambda: split_classes(*digits.tables(), classes, 30, seed), notify
    )
    return _task("digits", seed, folder, "image", None, "label", classes)


TASKS: dict[str, Callable[..., Task]] = {
    "digits": digits_task,
    "mnist": mnist_task,
    "cifar10": cifar10_task,
    "wordnet": wordnet_task,
    "wordnet_many": wordnet_many_task,
    "passages": passages_task,
    "topics": topics_task,
}
"""By data set; each takes (cache, seed, say) and the data set's own options."""


def _write_once(cache: Path, name: str, seed: int, split: Callable[[], Split], notify: Notify) -> Path:
    """Return the folder with a seed's three files, splitting and writing them unless that was finished before."""
    folder = make_folder(cache / "tasks" / f"{name}.{VERSION}" / f"seed-{seed}")
    if not (folder / _DONE).exists():
        parts = split()
        parts.check_disjoint()
        for part, table in parts._asdict().items():
            write_rows(folder / f"{part}.parquet", table.combine_chunks())
        write_json(folder / _DONE, {part: len(table) for part, table in parts._asdict().items()})  # last: all is there
        notify(f"{folder}: " + ", ".join(f"{part} {len(table)}" for part, table in parts._asdict().items()))
    return folder


def _task(
    name: str,
    seed: int,
    folder: Path,
    input_column: str,
    embedding_column: str | None,
    label_column: str,
    classes: tuple[int, ...] | tuple[str, ...],
) -> Task:
    pool, target, heldout = (folder / f"{part}.parquet" for part in Split._fields)
    return Task(name, seed, pool, target, heldout, input_column, embedding_column, label_column, classes)
