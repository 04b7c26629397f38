"""The 1,797 handwritten digits (8 x 8 pixels) that come with scikit-learn: nothing to fetch."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.experiments.cache import image_table

VERSION = 1
_NUM_TEST = 450
_LARGEST = 16.0


def tables() -> tuple[pa.Table, pa.Table]:
    """Return training rows (1,347) and test rows (450): id, image (64 float32 pixels from 0 to 1) and label.

    Test rows are the last, as in scikit-learn's own example: other people wrote them.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError(
            'the digits come with scikit-learn, which is not installed: pip install "ray_itl[demo]"'
        ) from error
    images, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    table = image_table(0, (images / _LARGEST).astype(np.float32), labels)
    return table.slice(0, len(table) - _NUM_TEST), table.slice(len(table) - _NUM_TEST)
