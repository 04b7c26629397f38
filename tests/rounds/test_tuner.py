"""Rounds on real digits: what they leave, that picks are the reference's, and that resuming changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.api import select
from ray_itl.core.posterior import Targets
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.rounds.data import open_tuning_data
from ray_itl.rounds.features import RoundFeatures
from ray_itl.rounds.group_settings import (
    CandidateSettings,
    DataSettings,
    LabelSettings,
    ModelSettings,
    RoundEmbeddingSettings,
    RoundSettings,
)
from ray_itl.rounds.result import FineTuning
from ray_itl.rounds.trainer_settings import TrainerSettings
from ray_itl.rounds.tuner import open_model
from ray_itl.training.seeds import derive_seed
from tests.oracle import dense_greedy
from tests.rounds.helpers import CLASSES, digits_settings, picks_of, tune

RULES = ("itl", "vtl", "uncertainty", "nearest", "cosine", "random", "badge")


def figures(run: FineTuning) -> dict[str, list]:
    """Everything of the curves but seconds."""
    kept = [name for name in run.curves.column_names if not name.startswith(("seconds", "drift"))]
    return run.curves.select(kept).to_pydict()


@pytest.fixture(scope="module")
def whole(data: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> FineTuning:
    torch.set_num_threads(1)
    return tune(digits_settings(data, tmp_path_factory.mktemp("whole") / "run"))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_goes_its_rounds(rule: str, data: DataSettings, tmp_path: Path) -> None:
    result = tune(digits_settings(data, tmp_path / "run", rule))
    assert result.state == "finished"
    picked = [row_id for number in (1, 2, 3) for row_id in picks_of(result.path, number)]
    assert len(set(picked)) == len(picked) == 24
    labels = dict(zip(*(pq.read_table(str(data.pool)).column(c).to_pylist() for c in ("id", "label")), strict=True))
    expected = [sum(labels[row_id] in CLASSES for row_id in picked[: 8 * r]) for r in range(4)]
    assert result.curves.column("num_on_task").to_pylist() == expected
    assert result.curves.column("num_labelled").to_pylist() == [0, 8, 16, 24]
    assert json.loads((result.path / "status.json").read_text())["state"] == "finished"


def test_nearest_goes_on_where_the_last_round_ended(data: DataSettings, tmp_path: Path) -> None:
    """With given embeddings and all targets, rounds pick what one selection does."""
    embedding, rounds = RoundEmbeddingSettings("column", "image"), RoundSettings(count=3, batch=8, seed=5)
    result = tune(digits_settings(data, tmp_path / "run", "nearest", embedding=embedding, rounds=rounds))
    options: Any = {"embedding_column": "image", "acquisition": "nearest", "noise_variance": 0.1}
    at_once = select(str(data.pool), str(data.target), 24, **options)
    assert [row_id for number in (1, 2, 3) for row_id in picks_of(result.path, number)] == at_once.ids


def test_itl_learns_the_task(whole: FineTuning) -> None:
    accuracy = whole.curves.column("heldout.accuracy").to_pylist()
    assert accuracy[0] < 0.6 < 0.75 < max(accuracy)
    assert whole.checkpoint is not None
    assert whole.checkpoint.exists()
    assert whole.curves.column("drift.mean_cosine").to_pylist()[2] is not None


@pytest.mark.parametrize("number", [1, 3])
def test_picks_are_those_of_the_dense_reference(number: int, whole: FineTuning, data: DataSettings) -> None:
    settings = digits_settings(data, whole.path)
    opened = open_tuning_data(settings)
    before = whole.path / "rounds" / f"{number - 1:04d}" / "checkpoint.safetensors"
    model = open_model(settings, whole.path)
    embedding = RoundFeatures(opened, settings, model, str(before) if number > 1 else None)
    earlier = [row_id for r in range(1, number) for row_id in picks_of(whole.path, r)]
    ids = opened.pool_ids()
    pool = torch.from_numpy(embedding.pool().embeddings(np.arange(len(ids))))
    known = np.flatnonzero(np.isin(ids, earlier))
    rest = np.setdiff1d(np.arange(len(ids)), known)
    # The round's targets: a sample of ten, drawn again here as the run did.
    rng = np.random.default_rng(derive_seed(settings.rounds.seed, "targets", number))
    targets = embedding.targets(np.sort(rng.choice(opened.targets.num_rows, 10, replace=False)))
    expected = dense_greedy("itl", pool[rest], ids[rest], Targets.uniform(targets), 8, 0.1, known=pool[known])
    assert [int(ids[rest][pick.index]) for pick in expected] == picks_of(whole.path, number)


STEPS = [
    "round.json",
    "checkpoint.safetensors.json",
    "checkpoint.safetensors",
    "examples.safetensors",
    "labels.parquet",
]


@pytest.mark.parametrize("missing", [*range(1, len(STEPS) + 1), None])
def test_resuming_at_any_step_changes_nothing(
    missing: int | None, whole: FineTuning, data: DataSettings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole.path, run)
    shutil.rmtree(run / "rounds" / "0003")
    (run / "status.json").unlink()
    if missing is None:
        (run / "rounds" / "0002" / "selection.parquet").unlink()
    for step in STEPS[:missing]:
        (run / "rounds" / "0002" / step).unlink()
    resumed = tune(digits_settings(data, run))
    assert figures(resumed) == figures(whole)
    assert [picks_of(run, r) for r in (1, 2, 3)] == [picks_of(whole.path, r) for r in (1, 2, 3)]
    assert resumed.checkpoint is not None
    assert whole.checkpoint is not None
    assert resumed.checkpoint.read_bytes() == whole.checkpoint.read_bytes()


def test_more_rounds_continue_a_finished_run(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    shorter = tune(digits_settings(data, tmp_path / "run", rounds=RoundSettings(2, 8, 10, 5)))
    assert len(shorter.curves) == 3
    assert figures(tune(digits_settings(data, tmp_path / "run"))) == figures(whole)


def test_only_the_weights_that_are_needed_may_be_kept(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    settings = digits_settings(data, tmp_path / "run", rounds=RoundSettings(3, 8, 10, 5, keep_checkpoints="last"))
    assert figures(tune(replace(settings, rounds=replace(settings.rounds, count=2)))) != figures(whole)
    assert figures(tune(settings)) == figures(whole)
    kept = sorted(int(path.parent.name) for path in (tmp_path / "run").glob("rounds/*/checkpoint.safetensors"))
    assert kept == [2, 3]
    assert not list((tmp_path / "run").glob("rounds/*/*second_moments*"))
    drift = whole.curves.column("drift.mean_cosine").to_pylist()
    assert tune(settings).curves.column("drift.mean_cosine").to_pylist() == drift


def test_second_moments_are_kept_with_the_weights(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    rounds = RoundSettings(3, 8, 10, 5, keep_checkpoints="last", repeats=2)
    settings = digits_settings(data, tmp_path / "run", rounds=rounds)
    settings = replace(settings, training=replace(settings.training, keep_second_moments=True))
    result = tune(settings)
    for number in (1, 2, 3):
        assert picks_of(result.path, number) == picks_of(whole.path, number)
    kept = sorted(str(path.relative_to(result.path)) for path in result.path.glob("rounds/*/*second_moments*"))
    assert kept == [f"rounds/000{number}/checkpoint.second_moments.safetensors" for number in (2, 3)]


def test_scores_of_repeated_trainings_are_averaged(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    """The first training of each round is that of a run that trains once, and so are the weights, and the picks."""
    result = tune(digits_settings(data, tmp_path / "run", rounds=RoundSettings(3, 8, 10, 5, repeats=3)))
    for number in (1, 2, 3):
        assert picks_of(result.path, number) == picks_of(whole.path, number)
        folder = result.path / "rounds" / f"{number:04d}"
        assert (folder / "checkpoint.safetensors").read_bytes() == (
            whole.path / "rounds" / f"{number:04d}" / "checkpoint.safetensors"
        ).read_bytes()
        names = ("checkpoint", "repeat-1", "repeat-2")
        told = [json.loads((folder / f"{name}.safetensors.json").read_text())["result"] for name in names]
        scores = [each["metrics"]["accuracy"] for each in told]
        assert result.curves.column("heldout.accuracy")[number].as_py() == pytest.approx(sum(scores) / 3)
        assert not list(folder.glob("repeat-*.safetensors"))
    with pytest.raises(RunDirectoryError, match=r"rounds\.repeats"):
        tune(digits_settings(data, result.path))


def test_other_options_or_rows_are_refused(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*") if path.is_file()}
    with pytest.raises(RunDirectoryError, match=r"changed: acquisition\.name"):
        tune(digits_settings(data, whole.path, "vtl"))
    other = tmp_path / "heldout.parquet"
    pq.write_table(pq.read_table(str(data.heldout)).slice(1), other)
    changed = DataSettings(data.pool, data.target, str(other), raw_column="image", classes=CLASSES)
    with pytest.raises(RunDirectoryError, match="changed: heldout"):
        tune(digits_settings(changed, whole.path))
    assert {path: path.stat().st_mtime_ns for path in whole.path.rglob("*") if path.is_file()} == before


def test_row_order_and_files_change_no_first_pick(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    table = pq.read_table(str(data.pool))
    order = np.random.default_rng(3).permutation(len(table))
    (tmp_path / "pool").mkdir()
    for number, rows in enumerate(np.array_split(order, 3)):
        pq.write_table(table.take(pa.array(rows)), tmp_path / "pool" / f"{number}.parquet")
    shuffled = DataSettings(str(tmp_path / "pool"), data.target, data.heldout, raw_column="image", classes=CLASSES)
    result = tune(digits_settings(shuffled, tmp_path / "run", rounds=RoundSettings(1, 8, 10, 5)))
    assert picks_of(result.path, 1) == picks_of(whole.path, 1)


@pytest.mark.parametrize("which", ["random", "best"])
def test_fewer_candidates(which: str, data: DataSettings, tmp_path: Path) -> None:
    settings = digits_settings(data, tmp_path / "run", candidates=CandidateSettings(which, 60, 2))
    result = tune(settings)
    picked = [row_id for number in (1, 2, 3) for row_id in picks_of(result.path, number)]
    assert len(set(picked)) == 24
    again = tune(digits_settings(data, tmp_path / "again", candidates=CandidateSettings(which, 60, 2)))
    assert figures(again) == figures(result)


def test_all_rows_as_best_candidates_equal_the_whole_pool(
    whole: FineTuning, data: DataSettings, tmp_path: Path
) -> None:
    everything = CandidateSettings("best", 900, 1)
    result = tune(digits_settings(data, tmp_path / "run", candidates=everything))
    assert [picks_of(result.path, r) for r in (1, 2, 3)] == [picks_of(whole.path, r) for r in (1, 2, 3)]


def test_people_label_round_by_round(whole: FineTuning, data: DataSettings, tmp_path: Path) -> None:
    unlabelled = tmp_path / "pool.parquet"
    table = pq.read_table(str(data.pool))
    pq.write_table(table.drop_columns(["label"]), unlabelled, row_group_size=250)
    truth = dict(zip(table.column("id").to_pylist(), table.column("label").to_pylist(), strict=True))
    rows = DataSettings(str(unlabelled), data.target, data.heldout, raw_column="image", classes=CLASSES)
    settings = digits_settings(rows, tmp_path / "run", labels=LabelSettings("people"))
    for number in (1, 2, 3):
        waiting = tune(settings)
        assert waiting.state == "awaiting_labels"
        status = json.loads((waiting.path / "status.json").read_text())
        assert (status["state"], status["round"]) == ("awaiting_labels", number)
        assert waiting.waiting_for is not None
        ids = pq.read_table(waiting.waiting_for.with_name("to_label.parquet")).column("id").to_pylist()
        if number == 2:
            pq.write_table(pa.table({"id": ids[1:], "label": [truth[i] for i in ids[1:]]}), waiting.waiting_for)
            again = tune(settings)
            assert (again.state, again.labels and again.labels.missing) == ("awaiting_labels", ids[:1])
        pq.write_table(pa.table({"id": ids[::-1], "label": [truth[i] for i in ids[::-1]]}), waiting.waiting_for)
    assert figures(tune(settings)) == figures(whole)


def test_a_part_of_the_labels_is_enough_and_late_ones_are_trained_on(data: DataSettings, tmp_path: Path) -> None:
    table = pq.read_table(str(data.pool))
    truth = dict(zip(table.column("id").to_pylist(), table.column("label").to_pylist(), strict=True))
    labels = LabelSettings("people", wait_for="any")
    settings = digits_settings(data, tmp_path / "run", labels=labels)
    first = tune(settings)
    assert first.waiting_for is not None
    ids = pq.read_table(first.waiting_for.with_name("to_label.parquet")).column("id").to_pylist()
    folder = first.waiting_for.parent
    rows = [(ids[0], "(skip)"), *((i, truth[i] if truth[i] in CLASSES else "(other)") for i in ids[2:])]
    (folder / "labels.csv").write_text("id,label\n" + "".join(f"{i},{label}\n" for i, label in rows))
    second = tune(settings)
    assert (second.state, second.curves.column("num_labelled").to_pylist()) == ("awaiting_labels", [0, len(ids) - 2])
    assert second.waiting_for is not None
    assert second.waiting_for.parent.name == "0002"
    # What has no label is not picked again, and what comes late counts from the next round.
    asked = pq.read_table(second.waiting_for.with_name("to_label.parquet")).column("id").to_pylist()
    assert not set(asked) & set(ids)
    (folder / "labels (1).csv").write_text(f"id,label\n{ids[1]},(other)\n")
    for folder in (second.waiting_for.parent, second.waiting_for.parents[1] / "0003"):
        asked = tune(settings) and pq.read_table(folder / "to_label.parquet").column("id").to_pylist()
        pq.write_table(pa.table({"id": asked, "label": [truth[i] for i in asked]}), folder / "labels.parquet")
    last = tune(settings)
    assert last.state == "finished"
    batch = len(ids)
    assert last.curves.column("num_labelled").to_pylist() == [0, batch - 2, 2 * batch - 1, 3 * batch - 1]


def test_picks_without_a_label_teach_the_rule_nothing(data: DataSettings, tmp_path: Path) -> None:
    """A round whose picks were all skipped leaves the next as it would be if those rows were not in the pool."""
    table = pq.read_table(str(data.pool))
    options = {"labels": LabelSettings("people"), "rounds": RoundSettings(3, 8, seed=5)}  # all targets in every round
    skipped = digits_settings(data, tmp_path / "run", **options)
    waiting = tune(skipped)
    assert waiting.waiting_for is not None
    ids = pq.read_table(waiting.waiting_for.with_name("to_label.parquet")).column("id").to_pylist()
    pq.write_table(pa.table({"id": ids, "label": ["(skip)"] * len(ids)}), waiting.waiting_for)
    again = tune(skipped)
    assert again.waiting_for is not None
    picked = pq.read_table(again.waiting_for.with_name("to_label.parquet")).column("id").to_pylist()
    without = tmp_path / "without.parquet"
    pq.write_table(table.filter([row_id not in ids for row_id in table.column("id").to_pylist()]), without)
    fresh = digits_settings(DataSettings(**{**vars(data), "pool": str(without)}), tmp_path / "fresh", **options)
    waiting = tune(fresh)
    assert waiting.waiting_for is not None
    assert pq.read_table(waiting.waiting_for.with_name("to_label.parquet")).column("id").to_pylist() == picked


@pytest.mark.parametrize("start", ["warm", "head"])
def test_training_can_go_on_from_the_last_round(start: str, data: DataSettings, tmp_path: Path) -> None:
    model = ModelSettings("mlp", {"input_dim": 64, "hidden": [32], "classes": 3}, start=start)
    first = tune(digits_settings(data, tmp_path / "first", model=model))
    again = tune(digits_settings(data, tmp_path / "again", model=model))
    assert figures(first) == figures(again)


def _without(name: str) -> Callable[[DataSettings], DataSettings]:
    return lambda data: DataSettings(**{**vars(data), name: None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("pool"), "data.pool is not set"),
        (_without("heldout"), "data.heldout is not set"),
        (lambda data: DataSettings(**{**vars(data), "classes": []}), "data.classes is empty"),
        (lambda data: DataSettings(**{**vars(data), "classes": [3, 6]}), "has the label 9"),
        (lambda data: DataSettings(**{**vars(data), "raw_column": "imagge"}), r"mean 'image'\?.*set data\.raw_column"),
        (
            lambda data: DataSettings(**{**vars(data), "label_column": "lable"}),
            r"mean 'label'\?.*set data\.label_column",
        ),
        (lambda data: DataSettings(**{**vars(data), "id_column": "ids"}), r"no column 'ids'.*set data\.id_column"),
        (lambda data: DataSettings(**{**vars(data), "id_column": "label"}), "occurs more than once"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_left(
    change: Callable[[DataSettings], DataSettings], message: str, data: DataSettings, tmp_path: Path
) -> None:
    with pytest.raises((InputError, ConfigError), match=message):
        tune(digits_settings(change(data), tmp_path / "run"))
    assert not (tmp_path / "run" / "rounds" / "0001" / "selection.parquet").exists()


def test_a_driver_without_gpu_embeds_for_workers_that_have_one_and_trains_nothing_itself(
    data: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = digits_settings(data, tmp_path / "run", trainer=TrainerSettings(use_gpu=True))
    features = RoundFeatures(open_tuning_data(settings), settings, open_model(settings, tmp_path / "run"), None)
    assert features.rows(np.array([0, 5])).shape == (2, 32)
    with pytest.raises(ConfigError, match=r"trainer\.use_gpu=true with trainer\.kind=local.* no GPU"):
        tune(settings)
    assert not (tmp_path / "run").exists()


def test_more_rows_than_the_pool_has_are_refused(data: DataSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the pool has 900 rows"):
        tune(digits_settings(data, tmp_path / "run", rounds=RoundSettings(101, 9)))
    with pytest.raises(ConfigError, match="targets_per_round=21"):
        tune(digits_settings(data, tmp_path / "run", rounds=RoundSettings(2, 8, 21)))
    assert not (tmp_path / "run").exists()
