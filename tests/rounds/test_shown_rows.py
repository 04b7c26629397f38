"""What the page shows of a run: its classes, and the rows that it picked, as pictures or texts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.experiments.job import run_experiment
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.group_settings import DataSettings, RoundSettings
from ray_itl.rounds.settings import FineTuneJobSettings, FineTuneSettings
from ray_itl.rounds.shown_rows import class_scores, picked_rounds
from ray_itl.rounds.sweep_settings import SweepSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from tests.report.pages import Page
from tests.rounds.helpers import CLASSES, digits_settings


@pytest.fixture(scope="module")
def settings(data: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> FineTuneSettings:
    """Of a finished run."""
    settings = digits_settings(data, tmp_path_factory.mktemp("shown") / "run", rounds=RoundSettings(2, 8, 10, 5))
    ActiveFineTuner(settings).run()
    return settings


def run_of(settings: FineTuneSettings) -> Path:
    return Path(str(settings.run.dir))


def test_classes_are_counted_as_they_were_trained_on_and_scored(settings: FineTuneSettings, data: DataSettings) -> None:
    run = run_of(settings)
    scores = class_scores([run], settings, "itl")
    assert scores is not None
    assert (scores.names, scores.whose) == (["3", "6", "9"], "itl after round 2")
    heldout = pq.read_table(str(data.heldout))["label"].to_pylist()
    assert scores.confusion.sum(axis=1).tolist() == [heldout.count(c) for c in CLASSES]
    accuracy = pq.read_table(run / "learning_curves.parquet")["heldout.accuracy"].to_pylist()[-1]
    assert scores.confusion.trace() / len(heldout) == pytest.approx(accuracy)
    labels = [pq.read_table(path)["label"].to_pylist() for path in run.glob("rounds/*/labels.parquet")]
    assert scores.num_trained.tolist() == [sum(some.count(c) for some in labels) for c in CLASSES]
    twice = class_scores([run, run], settings, "itl")
    assert twice is not None
    assert (twice.confusion == 2 * scores.confusion).all()
    assert twice.whose == "itl after round 2, 2 seeds together"


def test_rows_of_a_run_that_recorded_no_confusion_are_not_shown(settings: FineTuneSettings, tmp_path: Path) -> None:
    assert class_scores([tmp_path], settings, "itl") is None
    assert class_scores([], settings, "itl") is None


def test_numbers_that_make_a_picture_are_shown_as_one(settings: FineTuneSettings) -> None:
    rounds = picked_rounds(run_of(settings), settings)
    assert [(each.number, each.num_rows, each.are_pictures) for each in rounds] == [(1, 8, True), (2, 8, True)]
    assert all(row.seen.startswith("data:image/png;base64,") for each in rounds for row in each.rows)
    table = pq.read_table(run_of(settings) / "rounds" / "0001" / "labels.parquet")
    labels = dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))
    picks = pq.read_table(run_of(settings) / "rounds" / "0001" / "selection.parquet")["id"].to_pylist()
    assert [row.label for row in rounds[0].rows] == [str(labels[row_id]) for row_id in picks]
    assert [row.on_task for row in rounds[0].rows] == [labels[row_id] in CLASSES for row_id in picks]
    assert rounds[0].on_task == sum(row.on_task for row in rounds[0].rows)


def test_rows_without_a_label_are_shown_as_such(settings: FineTuneSettings, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_of(settings), run)
    folder = run / "rounds" / "0001"
    labels = pq.read_table(folder / "labels.parquet").to_pylist()
    skipped = next(row for row in labels if row["label"] in CLASSES)
    names = {c: str(c) for c in CLASSES}
    lines = [f"{row['id']},{'(skip)' if row is skipped else names.get(row['label'], '(other)')}" for row in labels]
    (folder / "labels.parquet").unlink()
    (folder / "labels.csv").write_text("\n".join(["id,label", *lines]) + "\n")
    before, after = (class_scores([each], settings, "itl") for each in (run_of(settings), run))
    assert before is not None
    assert after is not None
    assert (before.num_trained - after.num_trained).tolist() == [int(c == skipped["label"]) for c in CLASSES]
    rounds, whole = picked_rounds(run, settings), picked_rounds(run_of(settings), settings)
    assert rounds[0].on_task == whole[0].on_task - 1
    assert [row.label for row in rounds[0].rows].count("") == 1


@pytest.mark.parametrize("kind", ["texts", "chats", "vectors"])
def test_texts_are_shown_and_vectors_are_not(
    kind: str, settings: FineTuneSettings, data: DataSettings, tmp_path: Path
) -> None:
    table = pq.read_table(str(data.pool))
    texts = [f"digit {k} <b>" for k in range(len(table))]
    vectors = [[0.5, -1.0, 2.0, 1.0]] * len(table)
    chats = [[{"role": "user", "content": text}] for text in texts]
    column = pa.array({"texts": texts, "chats": chats, "vectors": vectors}[kind])
    path = str(tmp_path / "pool.parquet")
    pq.write_table(table.set_column(1, "image", column), path)
    rounds = picked_rounds(run_of(settings), replace(settings, data=replace(settings.data, pool=path)))
    if kind == "vectors":
        assert rounds == []
        return
    positions = pq.read_table(run_of(settings) / "rounds" / "0001" / "selection.parquet")["position"].to_pylist()
    assert [row.seen for row in rounds[0].rows] == [
        texts[k] if kind == "texts" else f"user: {texts[k]}" for k in positions[:5]
    ]


def test_pages_of_a_run_and_of_a_sweep_have_them(data: DataSettings, tmp_path: Path) -> None:
    one = digits_settings(data, tmp_path / "one", rounds=RoundSettings(1, 6, 10, 5))
    values = {name: getattr(one, name) for name in one.__dataclass_fields__}
    run_experiment(FineTuneJobSettings(**values), Reporter("quiet"))
    words = " ".join(Page((tmp_path / "one" / "report.html").read_text()).words)
    assert "Class by class" in words
    assert "What was picked" in words
    assert "One seed: differences" not in words
    sweep = SweepSettings(variants={"itl": {}, "random": {"acquisition.name": "random"}}, seeds=2)
    run = replace(one.run, dir=str(tmp_path / "sweep"))
    run_experiment(FineTuneJobSettings(**{**values, "run": run, "sweep": sweep}), Reporter("quiet"))
    words = " ".join(Page((tmp_path / "sweep" / "report.html").read_text()).words)
    assert "after round 1, 2 seeds together" in words
    assert "What was picked" not in words


def test_outputs_that_are_no_class_have_a_name(settings: FineTuneSettings) -> None:
    fewer = replace(settings, data=replace(settings.data, classes=[3, 6]))
    scores = class_scores([run_of(settings)], fewer, "itl")
    assert scores is not None
    assert scores.names == ["3", "6", "output 2"]
    assert np.array_equal(scores.confusion.shape, (3, 3))
