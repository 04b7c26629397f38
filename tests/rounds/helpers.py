"""A small real task: handwritten digits, of which 3, 6 and 9 are to be learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.rounds.group_settings import (
    CandidateSettings,
    DataSettings,
    ModelSettings,
    RoundEmbeddingSettings,
    RoundSettings,
    RuleSettings,
    TuningRunSettings,
)
from ray_itl.rounds.result import FineTuning
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.settings import TrainingSettings

CLASSES = [3, 6, 9]


def tune(settings: FineTuneSettings) -> FineTuning:
    return ActiveFineTuner(settings).run()


def picks_of(run: Path, number: int | None = None) -> list[int]:
    """Ids in the order of picking, of one round or of all."""
    name = "*" if number is None else f"{number:04d}"
    files = sorted((run / "rounds").glob(f"{name}/selection.parquet"))
    assert files or number is None, f"round {number} picked nothing"
    return [row_id for file in files for row_id in pq.read_table(file).column("id").to_pylist()]


def write_digits(folder: Path) -> DataSettings:
    """Write a pool of 900 digits, 20 targets and 200 held-out ones."""
    from sklearn.datasets import load_digits  # a second, which the collection of the tests need not take

    images, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    wanted = np.flatnonzero(np.isin(labels, CLASSES))
    heldout, target = wanted[:200], wanted[200:220]
    pool = np.setdiff1d(np.arange(len(labels)), wanted[:220])[:900]
    for name, rows in (("pool", pool), ("target", target), ("heldout", heldout)):
        pixels = (images[rows] / 16.0).astype(np.float32)
        image = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), pixels.shape[1])
        table = pa.table({"id": pa.array(rows * 7), "image": image, "label": pa.array(labels[rows])})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=250)
    return DataSettings(
        *(str(folder / f"{name}.parquet") for name in ("pool", "target", "heldout")),
        raw_column="image",
        classes=list(CLASSES),
    )


def digits_settings(data: DataSettings, run: Path, rule: str = "itl", **changes: object) -> FineTuneSettings:
    """Three rounds of eight digits with a small network, re-embedded every round."""
    values: dict[str, object] = {
        "data": data,
        "model": ModelSettings("mlp", {"input_dim": 64, "hidden": [32], "classes": 3}, start="fresh"),
        "embedding": RoundEmbeddingSettings(kind="gradient" if rule == "badge" else "features"),
        "acquisition": RuleSettings(rule, 0.1),
        "candidates": CandidateSettings(),
        "rounds": RoundSettings(count=3, batch=8, targets_per_round=10, seed=5),
        "training": TrainingSettings(epochs=20, learning_rate=0.01, batch_size=16),
        "run": TuningRunSettings(str(run), log="quiet"),
    }
    return FineTuneSettings(**{**values, **changes})  # pyright: ignore[reportArgumentType]
