"""Frozen features of images or texts as a further column of their table, made in parts that survive an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, as_matrix, make_folder, vectors, write_rows
from ray_itl.experiments.models import minilm_path

EMBEDDING_DIM = 384
MAX_TOKENS = 128
"""Longer texts are cut: what the model was trained with, about 600 characters."""
_ROWS_PER_PART = 4000
_BATCH = 16
FEATURE_DIM = 1280
_STAGES = (  # kernel, stride, expansion, channels out, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM_CHANNELS = 32


def embed_in_parts(
    table: pa.Table,
    order: np.ndarray,
    embed: Callable[[np.ndarray], np.ndarray],
    output: Path,
    rows_per_part: int,
    notify: Notify,
) -> None:
    """Write `table` with a further column `embedding` to `output`, computing at most `rows_per_part` rows at a time.

    `order` is a permutation of the N rows: those that are near in it are embedded together. `embed` takes row numbers
    and returns their embeddings, n x D, finite. Each part is kept as a file in a folder beside `output`, so that the
    same call after an interruption goes on where it was; they are removed once `output` is written.

    Raises:
        InputError: embeddings of the wrong count or not finite.
    """
    parts = make_folder(output.with_suffix(".parts"))
    starts = range(0, len(order), rows_per_part)
    files = [parts / f"part-{start // rows_per_part:05d}.parquet" for start in starts]
    for start, file in zip(starts, files, strict=True):
        rows = order[start : start + rows_per_part]
        ids = table["id"].take(pa.array(rows)).combine_chunks()
        if _holds(file, ids):
            continue
        began = time.perf_counter()
        embeddings = embed(rows)
        if len(embeddings) != len(rows) or not np.isfinite(embeddings).all():
            raise InputError(f"{output}: an embedding of rows {start} to {start + len(rows)} is missing or not finite")
        write_rows(file, pa.table({"id": ids, "embedding": vectors(embeddings)}))
        notify(f"{output.name}: {start + len(rows)} of {len(order)} rows, {time.perf_counter() - began:.0f} s a part")
    embeddings = np.concatenate([as_matrix(pq.read_table(file)["embedding"]) for file in files])
    ordered = np.empty_like(embeddings)
    ordered[order] = embeddings
    write_rows(output, table.append_column("embedding", vectors(ordered)))
    for file in files:
        file.unlink()
    parts.rmdir()


def _holds(file: Path, ids: pa.Array) -> bool:
    """Tell whether a part's file is there and of these rows (else the data changed since it was written)."""
    return file.exists() and pq.read_table(file, columns=["id"])["id"].combine_chunks().equals(ids)


def embed_texts(cache: Path, table: pa.Table, output: Path, notify: Notify) -> None:
    """Write `table` (columns id, text and any more) with embeddings of the texts (384 x float16) to `output`.

    Works in parts, see `embed_in_parts`; texts of like length are embedded together, which saves padding.

    Raises:
        InputError: the model or transformers is missing (says what to do).
    """
    encoder = SentenceEncoder(minilm_path(cache))
    texts = table["text"].to_pylist()
    order = np.argsort([len(text) for text in texts], kind="stable")
    embed_in_parts(
        table, order, lambda rows: encoder.embed([texts[row] for row in rows]), output, _ROWS_PER_PART, notify
    )


class SentenceEncoder:
    """A text encoder of transformers whose token features are averaged and scaled to unit length."""

    def __init__(self, folder: Path):
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise InputError(
                'embedding text needs transformers, which is not installed: pip install "ray_itl[text]"'
            ) from error
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return embeddings, n texts -> n x 384 float16, in batches of neighbours."""
        batches = [self._embed_batch(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return np.concatenate(batches)

    def _embed_batch(self, texts: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            hidden = self._model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(2)
            means = (hidden * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(means, dim=1).half().numpy()


class _Convolution(nn.Module):
    """Convolution, batch normalisation, and ReLU6 where `active`; padded as TensorFlow does for even sizes."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__()
        before = (kernel - stride) // 2
        self.padding = (before, kernel - stride - before) * 2
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out, eps=1e-3)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(functional.pad(x, self.padding)))
        return functional.relu6(x) if self.active else x


class _Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel, narrow; added to its input where shapes allow."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = c_in * expansion
        layers = [_Convolution(c_in, wide, 1)] if expansion > 1 else []
        layers.append(_Convolution(wide, wide, kernel, stride, groups=wide))
        layers.append(_Convolution(wide, c_out, 1, active=False))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """The convolutional part of EfficientNet-Lite0 (Tan and Le, arXiv:1905.11946, without squeeze-and-excitation).

    Takes images as n x 3 x S x S floats from 0 to 255 and returns n x 1280 non-negative features: the last feature
    map averaged over space. S must be a multiple of 32 (the padding is that of even sizes).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Convolution(3, _STEM_CHANNELS, 3, 2)]
        channels = _STEM_CHANNELS
        for kernel, stride, expansion, c_out, blocks in _STAGES:
            for block in range(blocks):
                layers.append(_Block(channels, c_out, kernel, stride if block == 0 else 1, expansion))
                channels = c_out
        layers.append(_Convolution(channels, FEATURE_DIM, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, n x 3 x S x S -> n x 1280."""
        return self.layers((images - 127) / 128).mean((2, 3))


def load_efficientnet_lite0(path: Path) -> EfficientNetLite0:
    """Return the network in evaluation mode with the ImageNet weights of a PyTorch checkpoint.

    The checkpoint names its tensors in its own way but lists them in the order in which the network applies them, so
    they are matched by order, and every shape is checked.

    Raises:
        InputError: the file holds something else.
    """
    network = EfficientNetLite0()
    own = network.state_dict()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    tensors = [tensor for name, tensor in stored.items() if not name.startswith("_fc.")]
    if [tensor.shape for tensor in tensors] != [tensor.shape for tensor in own.values()]:
        raise InputError(f"{path} does not hold the weights of EfficientNet-Lite0; remove it to have it fetched again")
    network.load_state_dict(dict(zip(own, tensors, strict=True)))
    return network.eval().requires_grad_(False)
