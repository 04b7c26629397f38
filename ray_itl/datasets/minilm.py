"""Sentence embeddings by all-MiniLM-L6-v2, read from a local folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_itl.datasets.models import minilm_path
from ray_itl.datasets.parts import embed_in_parts
from ray_itl.datasets.tables import Say
from ray_itl.errors import InputError

EMBEDDING_DIM = 384
MAX_TOKENS = 128
"""Longer texts are cut: what the model was trained with, about 600 characters."""
_ROWS_PER_PART = 4000
_BATCH = 16


def embed_texts(cache: Path, table: pa.Table, output: Path, say: Say) -> None:
    """Write `table` (columns id, text and any more) with embeddings of the texts (384 x float16) to `output`.

    Works in parts, see `embed_in_parts`; texts of like length are embedded together, which saves padding.

    Raises:
        InputError: the model or transformers is missing (says what to do).
    """
    encoder = SentenceEncoder(minilm_path(cache))
    texts = table["text"].to_pylist()
    order = np.argsort([len(text) for text in texts], kind="stable")
    embed_in_parts(table, order, lambda rows: encoder.embed([texts[row] for row in rows]), output, _ROWS_PER_PART, say)


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
