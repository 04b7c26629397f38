"""Rounds on folders of images, whose subfolders are the labels, are those on the same images in Parquet."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.rounds.group_settings import DataSettings, ModelSettings, RoundSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.training.settings import TrainingSettings
from tests.rounds.helpers import digits_settings
from tests.rounds.test_tuner import figures, picks_of

SETS = {"pool": 60, "target": 6, "heldout": 12}


def write_images(folder: Path) -> None:
    """Write digits as images, `pool/3/0007.png`, and each set as Parquet beside it."""
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    rows = iter(np.flatnonzero(np.isin(labels, [3, 6, 9])).tolist())
    for name, count in SETS.items():
        for row in [next(rows) for _ in range(count)]:
            path = folder / name / str(labels[row]) / f"{row:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((images[row].reshape(8, 8) * 15).astype(np.uint8)).save(path)
        paths = sorted((folder / name).rglob("*.png"))
        table = {
            "id": [str(path.relative_to(folder / name)) for path in paths],
            "image": pa.array([path.read_bytes() for path in paths], pa.binary()),
            "label": [path.parent.name for path in paths],
        }
        pq.write_table(pa.table(table), folder / f"{name}.parquet")


def test_folders_are_picked_from_labelled_and_trained_on(tmp_path: Path) -> None:
    write_images(tmp_path)
    options = DataSettings(*("",) * 3, raw_column="image", classes=["3", "6", "9"])
    found = []
    for end in ("", ".parquet"):
        run = tmp_path / f"run{end}"
        data = replace(options, **{name: str(tmp_path / f"{name}{end}") for name in SETS})
        settings = digits_settings(
            data,
            run,
            model=ModelSettings("mnist_cnn", {"widths": [2, 2, 2], "features": 6, "classes": 3}, start="fresh"),
            rounds=RoundSettings(count=2, batch=5, seed=5),
            training=TrainingSettings(epochs=2, batch_size=8),
        )
        result = ActiveFineTuner(settings).run()
        assert result.state == "finished"
        found.append((picks_of(run, 1), picks_of(run, 2), figures(result)))
    assert found[0] == found[1]
    assert found[0][0][0].startswith(("3/", "6/", "9/"))
