"""The model of a run is read from its directory: what it predicts, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ray_itl import load_model
from ray_itl.errors import ConfigError, InputError
from ray_itl.options.text import to_yaml
from ray_itl.rounds.group_settings import DataSettings, ModelSettings
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.registry import ModelSpec
from tests.rounds.helpers import CLASSES, digits_settings, write_digits

MLP = ModelSettings("mlp", {"input_dim": 4, "classes": 3})


def trained(folder: Path, model: ModelSettings = MLP, rounds: int = 2, **data: Any) -> Path:
    """A run directory as a fine-tuning leaves it, with other weights after each round."""
    options = {"classes": CLASSES, "raw_column": "image", **data}
    settings = FineTuneSettings(data=DataSettings(**options), model=model)
    (folder / "config.yaml").write_text(to_yaml(settings))
    for number in range(1, rounds + 1):
        step = RoundFolder(folder, number)
        step.create()
        save_checkpoint(ModelSpec(model.name, model.options).build(number), step.checkpoint)
    return folder


def test_it_scores_held_out_rows_as_the_run_did(tmp_path: Path) -> None:
    data = write_digits(tmp_path)
    run = ActiveFineTuner(digits_settings(data, tmp_path / "run")).run()
    heldout = pq.read_table(str(data.heldout))
    model = load_model(run.path)
    found = model.predict(heldout)
    right = np.array(found.column("label").to_pylist()) == np.array(heldout.column("label").to_pylist())
    assert right.mean() == pytest.approx(run.curves.column("heldout.accuracy")[-1].as_py())
    assert model.classes == CLASSES
    assert model.checkpoint == run.checkpoint
    assert repr(model).startswith("TunedModel(Mlp, classes=[3, 6, 9], checkpoint=")


ROWS = np.random.default_rng(0).random((5, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "hand_over",
    [
        lambda rows: rows,
        lambda rows: rows.astype(np.float64),
        lambda rows: torch.from_numpy(rows),
        lambda rows: rows.tolist(),
        list,
        lambda rows: pa.array(rows.tolist()),
        lambda rows: pa.chunked_array([rows[:2].tolist(), rows[2:].tolist()]),
        lambda rows: pa.table({"image": rows.tolist(), "other": range(5)}),
        lambda rows: pd.DataFrame({"image": rows.tolist()}),
    ],
)
def test_rows_may_be_handed_over_in_any_form(tmp_path: Path, hand_over: Callable[[np.ndarray], Any]) -> None:
    model = load_model(trained(tmp_path))
    found = model.predict(hand_over(ROWS))
    shares = np.stack(found.column("probabilities").to_pylist())
    assert shares.sum(axis=1) == pytest.approx(np.ones(5))
    assert found.column("label").to_pylist() == [CLASSES[k] for k in shares.argmax(axis=1)]
    assert found.column("probability").to_pylist() == shares.max(axis=1).tolist()
    with torch.no_grad():
        expected = torch.softmax(model.learner({"vectors": torch.from_numpy(ROWS)}).double(), dim=1)
    assert shares == pytest.approx(expected.numpy())


def test_no_rows_give_no_rows(tmp_path: Path) -> None:
    assert load_model(trained(tmp_path)).predict(pa.array([], pa.list_(pa.float32()))).num_rows == 0


def test_a_round_may_be_named_and_the_last_is_the_default(tmp_path: Path) -> None:
    run = trained(tmp_path)
    first, last = load_model(run, after_round=1), load_model(run)
    assert (first.checkpoint.parent.name, last.checkpoint.parent.name) == ("0001", "0002")
    assert first.predict(ROWS) != last.predict(ROWS)


def test_rows_of_no_class_may_be_an_output_and_outputs_too_many_are_left_out(tmp_path: Path) -> None:
    four = ModelSettings("mlp", {"input_dim": 4, "classes": 4})
    model = load_model(trained(tmp_path, four, others="class"))
    assert model.classes == [*CLASSES, "(other)"]
    assert set(model.predict(ROWS).column("label").to_pylist()) <= {"3", "6", "9", "(other)"}
    (tmp_path / "more").mkdir()
    found = load_model(trained(tmp_path / "more", four)).predict(ROWS)
    assert np.sum(found.column("probabilities").to_pylist(), axis=1) == pytest.approx(np.ones(5))


def test_images_may_be_bytes_files_or_of_pillow(tmp_path: Path) -> None:
    model = load_model(
        trained(tmp_path, ModelSettings("mnist_cnn", {"classes": 3, "widths": [2, 2, 2], "features": 4}))
    )
    picture = Image.effect_noise((28, 28), 90)
    picture.save(tmp_path / "a.png")
    forms = [picture, tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()]
    shares = model.predict(forms).column("probability").to_pylist()
    assert shares == pytest.approx([shares[0]] * 4, rel=1e-5)  # rows of one batch differ by rounding
    with pytest.raises(InputError, match=r"'.*b\.png' cannot be read"):
        model.predict([tmp_path / "b.png"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a text", "rows is one str: hand over a list"),
        ([[1.0] * 3], r"row 0 .*3 numbers where the model reads 4"),
        ([None], "row 0|type null"),
        (pa.table({"picture": [[1.0] * 4]}), r"no column 'image'.*data\.raw_column of the run"),
        ({"image": 3}, "rows is of type dict"),
    ],
)
def test_rows_that_it_cannot_read_are_named(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(trained(tmp_path)).predict(rows)


def test_what_is_no_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml does not exist: name the run\.dir"):
        load_model(tmp_path)
    member = tmp_path / "sweep" / "itl" / "seed-0"
    member.mkdir(parents=True)
    trained(member)
    with pytest.raises(InputError, match=r"name one run of this sweep, as .*sweep/itl/seed-0"):
        load_model(tmp_path / "sweep")
    with pytest.raises(InputError, match=r"no weights at .*0007.*: rounds 1, 2 have some"):
        load_model(member, after_round=7)
    with pytest.raises(InputError, match="no round has trained yet"):
        load_model(trained(tmp_path, rounds=0))
    (tmp_path / "config.yaml").write_text("pool: {path: x}")
    with pytest.raises(InputError, match=r"config\.yaml is not of a fine-tuning"):
        load_model(tmp_path)


def test_a_file_that_is_no_safetensors_is_never_unpickled(tmp_path: Path) -> None:
    run = trained(tmp_path, rounds=1)
    torch.save({"weights": torch.zeros(1)}, RoundFolder(run, 1).checkpoint)
    with pytest.raises(InputError, match="damaged or not safetensors"):
        load_model(run)


def test_code_from_elsewhere_is_not_run_unless_it_is_trusted(tmp_path: Path) -> None:
    own = ModelSettings("ray_itl.training.models.classifiers:Mlp", {"input_dim": 4, "classes": 3})
    run = trained(tmp_path, own)
    with pytest.raises(ConfigError, match="if you trust it, pass trust_code=True"):
        load_model(run)
    assert load_model(run, trust_code=True).predict(ROWS).num_rows == 5


def test_a_language_model_tells_how_likely_texts_are(tmp_path: Path) -> None:
    from tests.training.test_language_model import TEXTS, write_tiny_llama  # skips without transformers

    path = write_tiny_llama(tmp_path / "llama")
    model = ModelSettings("causal_lm", {"path": str(path)}, objective="causal_lm")
    lm = load_model(trained(tmp_path, model, classes=[], raw_column="text"))
    found = lm.perplexity(TEXTS)
    assert found.shape == (3,)
    assert (found > 1).all()
    assert lm.perplexity(TEXTS[::-1]) == pytest.approx(found[::-1])
    with pytest.raises(ConfigError, match="use perplexity"):
        lm.predict(TEXTS)
    with pytest.raises(ConfigError, match="use predict"):
        load_model(trained(tmp_path)).perplexity(TEXTS)
