"""Rounds with a trainer of the user's: checked before any work, durable, and resumed to the same end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import load_model
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError, InputError, RunDirectoryError, TrainingError
from ray_itl.rounds.group_settings import (
    DataSettings,
    LabelSettings,
    ModelSettings,
    RoundEmbeddingSettings,
    RoundSettings,
)
from ray_itl.rounds.result import FineTuning
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.trainer_settings import TrainerSettings
from ray_itl.training.settings import TrainingSettings
from tests.rounds.helpers import CLASSES, digits_settings, picks_of, tune

HERE = "tests.rounds.trainers"
FILES = {"examples.parquet", "checkpoint", "checkpoint.json", "labels.parquet", "selection.parquet", "round.json"}


def settings_of(data: DataSettings, run: Path, kind: str = "NearestMean", **changes: object) -> FineTuneSettings:
    values = {
        "model": ModelSettings(),
        "training": TrainingSettings(),
        "trainer": TrainerSettings(f"{HERE}:{kind}"),
        "rounds": RoundSettings(3, 8, 10, 5),
    }
    return digits_settings(data, run, **{**values, **changes})


def figures(result: FineTuning) -> dict[str, list]:
    names = [name for name in result.curves.column_names if not name.startswith(("seconds", "drift"))]
    return result.curves.select(names).to_pydict()


@pytest.fixture(scope="module")
def whole(data: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> FineTuning:
    return tune(settings_of(data, tmp_path_factory.mktemp("own") / "run"))


def test_it_gets_all_labelled_rows_and_its_scores_are_the_curve(whole: FineTuning, data: DataSettings) -> None:
    assert whole.state == "finished"
    assert whole.checkpoint == whole.path / "rounds" / "0003" / "checkpoint" / "means.npz"
    accuracy = whole.curves.column("heldout.accuracy").to_pylist()
    assert accuracy[0] is None
    assert accuracy[-1] > 0.8
    third = whole.path / "rounds" / "0003"
    assert {path.name for path in third.iterdir()} == FILES
    examples = pq.read_table(third / "examples.parquet")
    assert examples.column_names == ["id", "image", "label"]
    assert set(examples["label"].to_pylist()) <= set(CLASSES)
    on_task = whole.curves.column("num_on_task").to_pylist()[-1]
    assert len(examples) == on_task
    truth = {row["id"]: row for row in pq.read_table(str(data.pool)).to_pylist()}
    picked = [row_id for row_id in picks_of(whole.path) if truth[row_id]["label"] in CLASSES]
    assert examples.to_pylist() == [truth[row_id] for row_id in picked]
    assert pq.read_table(whole.path / "heldout.parquet").column_names == ["image", "label"]


@pytest.mark.parametrize("missing", ["round.json", "checkpoint.json", "labels.parquet"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    missing: str, whole: FineTuning, data: DataSettings, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(whole.path, run)
    shutil.rmtree(run / "rounds" / "0003")
    (run / "status.json").unlink()
    second = run / "rounds" / "0002"
    for name in ("round.json", *(() if missing == "round.json" else ("checkpoint.json",))):
        (second / name).unlink()
    if missing == "labels.parquet":
        (second / missing).unlink()
    resumed = tune(settings_of(data, run))
    assert figures(resumed) == figures(whole)
    assert picks_of(run) == picks_of(whole.path)
    assert not log.exists()


def test_what_is_trained_is_not_trained_again_and_each_goes_on_from_the_last(
    data: DataSettings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    trainer = TrainerSettings(f"{HERE}:NearestMean", options={"log": str(log)})
    settings = settings_of(data, tmp_path / "run", trainer=trainer)
    tune(settings)
    trained = [line.split() for line in log.read_text().splitlines()]
    assert [line[0] for line in trained] == ["0001", "0002", "0003"]
    assert [line[2] for line in trained] == ["None", "0001", "0002"]
    (tmp_path / "run" / "rounds" / "0003" / "round.json").unlink()
    tune(settings)
    assert len(log.read_text().splitlines()) == 3
    other = TrainerSettings(f"{HERE}:NearestMean", options={"log": str(log), "fail_in": 9})
    with pytest.raises(RunDirectoryError, match=r"changed: trainer\.options"):
        tune(settings_of(data, tmp_path / "run", trainer=other))


def test_a_trainer_that_fails_is_told_of_in_a_line_and_asked_again(
    whole: FineTuning, data: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.rounds.trainers.NearestMean.__init__.__defaults__", ("image", None, 2))
    with pytest.raises(TrainingError, match=r"`train` .* in 0002 failed \(RuntimeError: out of cheese; ") as caught:
        tune(settings_of(data, tmp_path / "run"))
    kept = tmp_path / "run" / "rounds" / "0002" / "trainer-error.txt"
    assert str(kept) in str(caught.value)
    assert "Traceback" in kept.read_text()
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed"
    monkeypatch.undo()
    assert figures(tune(settings_of(data, tmp_path / "run"))) == figures(whole)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Nobody", r"trainer\.kind='tests\.rounds\.trainers:Nobody' cannot be imported"),
        ("OfGivenEmbeddings", r"gave a OfGivenEmbeddings without a method `features`"),
        ("OfOldTimes", r"whose `train` does not take 4 arguments"),
        ("Nameless", r"without `score_name`"),
        ("broken", r"cannot be built \(OSError: no such licence\)"),
        ("pixels", r"trainer\.options do not fit"),
    ],
)
def test_what_is_no_trainer_is_refused_before_any_work(
    kind: str, message: str, data: DataSettings, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        tune(settings_of(data, tmp_path / "run", kind))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Elsewhere", r"`train` .* returned PosixPath\(.*left within .*/rounds/0001/checkpoint"),
        ("OtherScore", r"`score` .* returned accuracy without its score_name, f1"),
        ("Flat", r"`features` .* returned an array of shape \(67,\): return one of 2 x D"),
    ],
)
def test_what_breaks_the_protocol_is_named(kind: str, message: str, data: DataSettings, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        tune(settings_of(data, tmp_path / "run", kind))


def test_given_embeddings_need_no_features(data: DataSettings, tmp_path: Path) -> None:
    embedding = RoundEmbeddingSettings("column", "image")
    assert tune(settings_of(data, tmp_path / "run", "OfGivenEmbeddings", embedding=embedding)).state == "finished"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ModelSettings("mnist_cnn")}, r"model\.name='mnist_cnn' says nothing to trainer\.kind="),
        ({"training": TrainingSettings(epochs=3)}, r"training\.epochs=3 says nothing to trainer\.kind="),
        ({"embedding": RoundEmbeddingSettings("gradient")}, r"embedding\.kind=gradient"),
        ({"embedding": RoundEmbeddingSettings(unit_norm=True)}, r"embedding\.unit_norm"),
    ],
)
def test_options_that_would_do_nothing_are_refused(changes: dict, message: str, data: DataSettings) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(data, Path("run"), **changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "slow"}, r"trainer\.kind='slow' cannot be used: use one of local, .*or module:factory"),
        ({"options": {"a": 1}}, r"trainer\.options=.* for a trainer of your own"),
        ({"kind": f"{HERE}:NearestMean", "num_workers": 2}, r"trainer\.num_workers=2 .* in trainer\.options"),
        ({"kind": f"{HERE}:NearestMean", "columns": ["a", "a"]}, r"trainer\.columns"),
        ({"kind": f"{HERE}:NearestMean", "columns": ["label"]}, r"trainer\.columns.*without id and label"),
    ],
)
def test_options_of_trainers_are_named(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainerSettings(**values)


def test_further_columns_come_along(data: DataSettings, tmp_path: Path) -> None:
    for name in ("pool", "target", "heldout"):
        table = pq.read_table(str(getattr(data, name)))
        column = pa.array([f"of {name}"] * len(table))
        pq.write_table(table.append_column("prompt", column), tmp_path / f"{name}.parquet")
    rows = DataSettings(
        *(str(tmp_path / f"{name}.parquet") for name in ("pool", "target", "heldout")),
        raw_column="image",
        classes=CLASSES,
    )
    trainer = TrainerSettings(f"{HERE}:NearestMean", columns=["prompt"])
    run = tune(settings_of(rows, tmp_path / "run", trainer=trainer, rounds=RoundSettings(1, 8, 10, 5))).path
    examples, heldout = (
        pq.read_table(run / "rounds" / "0001" / "examples.parquet"),
        pq.read_table(run / "heldout.parquet"),
    )
    assert set(examples["prompt"].to_pylist()) == {"of pool"}
    assert set(heldout["prompt"].to_pylist()) == {"of heldout"}
    wrong = TrainerSettings(f"{HERE}:NearestMean", columns=["promt"])
    with pytest.raises(InputError, match=r"mean 'prompt'\?.*set trainer\.columns"):
        tune(settings_of(rows, tmp_path / "other", trainer=wrong))


def test_people_label_a_part_of_the_rows(data: DataSettings, tmp_path: Path) -> None:
    """It gets those of the classes, and rows of no class, where they are an output, without a label."""
    pool = {row["id"]: row["label"] for row in pq.read_table(str(data.pool)).to_pylist()}
    settings = settings_of(
        replace(data, others="class"),
        tmp_path / "run",
        "OfSomeLabels",
        labels=LabelSettings("people", wait_for="any"),
        rounds=RoundSettings(2, 8, 10, 5),
    )
    waiting = tune(settings)
    assert waiting.waiting_for is not None
    assert waiting.checkpoint is None
    ids = pq.read_table(waiting.waiting_for.with_name("to_label.parquet")).column("id").to_pylist()
    labels = ["(skip)", "(other)", *("(other)" if pool[i] not in CLASSES else pool[i] for i in ids[2:-1])]
    lines = [f"{row_id},{label}" for row_id, label in zip(ids, labels, strict=False)]
    (waiting.waiting_for.parent / "labels.csv").write_text("\n".join(["id,label", *lines]) + "\n")
    again = tune(settings)
    assert again.state == "awaiting_labels"
    assert again.curves.column("num_labelled").to_pylist() == [0, len(ids) - 2]
    first = waiting.waiting_for.parent
    assert again.checkpoint == first / "checkpoint" / "means.npz"
    expected = [(i, None if label == "(other)" else label) for i, label in zip(ids[1:], labels[1:], strict=False)]
    examples = pq.read_table(first / "examples.parquet")
    assert list(zip(*(examples[name].to_pylist() for name in ("id", "label")), strict=True)) == expected


def test_its_model_is_for_the_trainer_to_load(whole: FineTuning, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known to its trainer alone, .*:NearestMean: load .*/0003/checkpoint/means"):
        load_model(whole.path, trust_code=True)
    with pytest.raises(ConfigError, match=r"/0002/checkpoint/means\.npz$"):
        load_model(whole.path, after_round=2)
    shutil.copytree(whole.path, tmp_path / "run", ignore=shutil.ignore_patterns("rounds"))
    with pytest.raises(ConfigError, match=r"it left no checkpoint there yet$"):
        load_model(tmp_path / "run")


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
def test_shards_on_ray_embed_by_it(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    cluster = ClusterSettings(num_shards=2, cpus_per_shard=0.5)
    result = tune(settings_of(data, tmp_path / "run", cluster=cluster))
    assert picks_of(result.path) == picks_of(whole.path)
    assert figures(result)["heldout.accuracy"] == figures(whole)["heldout.accuracy"]
