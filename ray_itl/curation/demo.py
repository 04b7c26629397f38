"""The demonstration on real data: handwritten digits from scikit-learn, as Parquet files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_itl.curation.settings import CurationSettings, EvaluationSettings
from ray_itl.errors import InputError
from ray_itl.io.atomic import write_parquet_table

TARGET_CLASSES = (3, 6, 9)
_NUM_TARGETS = 30


def digits_settings(settings: CurationSettings, folder: Path) -> CurationSettings:
    """Write the digits to `folder` and return the settings of a run on them.

    The pool holds all ten digits (8 x 8 pixels, 1,767 rows); the target is an unlabelled sample of 30 images of the
    digits 3, 6 and 9, which are not in the pool. The label column is used only to count picks afterwards.

    Raises:
        InputError: scikit-learn, which carries the images, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            'the demo needs scikit-learn, which carries its images: pip install "ray_itl[demo]", or set pool.path and '
            "target.path"
        ) from error
    images, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    rng = np.random.default_rng(settings.selection.seed)
    wanted = np.flatnonzero(np.isin(labels, TARGET_CLASSES))
    sample = np.sort(rng.choice(wanted, _NUM_TARGETS, replace=False))
    rest = np.setdiff1d(np.arange(len(labels)), sample)
    folder.mkdir(parents=True, exist_ok=True)
    # Named by the seed: another sample must not change the files of an earlier run.
    pool, target = (folder / f"{name}-{settings.selection.seed}.parquet" for name in ("pool", "target"))
    write_parquet_table(pool, _table(images, labels, rest))
    write_parquet_table(target, _table(images, labels, sample).drop_columns(["digit"]))
    return replace(
        settings,
        pool=replace(settings.pool, path=str(pool), columns=["digit"], features="unit_norm"),
        target=replace(settings.target, path=str(target), id_column="id"),
        evaluation=EvaluationSettings("digit", list(TARGET_CLASSES)),
    )


def _table(images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> pa.Table:
    pixels = (images[rows] / 16.0).astype(np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), pixels.shape[1])
    return pa.table({"id": pa.array(rows), "embedding": embedding, "digit": pa.array(labels[rows].astype(np.int64))})
