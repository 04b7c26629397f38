"""Sentence embeddings by a transformer of Hugging Face: token features averaged and scaled to unit length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_itl.errors import ConfigError, InputError
from ray_itl.training.chat import WITHOUT_TEMPLATE, chat_texts, has_template, is_chat
from ray_itl.training.inputs import decode_texts, trim_padding
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.models.classifiers import draw_anew
from ray_itl.training.models.pretrained import read_model, without_bars


class SentenceEncoder(Learner):
    """A pretrained encoder (BERT, MiniLM, ...) with mean pooling, and a linear classifier where classes are given.

    Features are h / |h| with h the mean of the last hidden states over the tokens of a text, as sentence-transformers
    computes them for models of that pooling.
    """

    def __init__(self, model: str, classes: int = 0, max_tokens: int = 128) -> None:
        """Load the model, weights from safetensors only.

        Args:
            model: A folder that transformers wrote, or a name on the Hugging Face hub, of which a copy in the local
                cache is preferred.
            classes: C of the classifier; 0 for none.
            max_tokens: Longer texts are cut.

        Raises:
            ConfigError: transformers is not installed, or options out of range.
            InputError: the model cannot be had.
        """
        super().__init__()
        if classes < 0 or max_tokens < 2:
            raise ConfigError(
                f"model.options classes={classes}, max_tokens={max_tokens} cannot be used: give at "
                "least 0, and at least 2"
            )
        self.encoder: Any
        self._tokenizer, self.encoder = _load(model)
        self.max_tokens = min(max_tokens, int(getattr(self.encoder.config, "max_position_embeddings", max_tokens)))
        self.feature_dim = int(self.encoder.config.hidden_size)
        self.head = nn.Linear(self.feature_dim, classes) if classes else None

    def encode(self, column: pa.Array) -> Inputs:
        """Return token ids and attention mask, both n x max_tokens."""
        is_chat_column = is_chat(column.type)
        tokens = self._tokenizer(
            chat_texts(self._tokenizer, column) if is_chat_column else decode_texts(column),
            add_special_tokens=not (is_chat_column and has_template(self._tokenizer)),
            padding="max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def remarks(self, kind: pa.DataType) -> list[str]:
        """Say so where conversations are read without a chat template."""
        return [WITHOUT_TEMPLATE] if is_chat(kind) and not has_template(self._tokenizer) else []

    def features(self, inputs: Inputs) -> Tensor:
        """Return unit-length means of token features, n x D."""
        tokens = trim_padding(inputs)
        hidden = self.encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(2).to(hidden.dtype)
        return functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)

    def outputs(self, features: Tensor) -> Tensor:
        """Return logits, n x C."""
        if self.head is None:
            raise ConfigError("sentence_encoder has no classifier: set model.options.classes")
        return self.head(features)

    def reset_head(self, seed: int) -> None:
        """Draw the classifier anew."""
        if self.head is None:
            raise ConfigError("sentence_encoder has no classifier: set model.options.classes")
        draw_anew(self.head, seed)


def _load(model: str) -> tuple[Any, nn.Module]:
    """Return tokenizer and model."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise ConfigError(
            'model.name=sentence_encoder needs transformers, which is not installed: pip install "ray_itl[text]"'
        ) from error
    try:
        with without_bars():
            try:
                return _from_pretrained(AutoTokenizer, AutoModel, model, local_files_only=True)
            except OSError:
                if Path(model).exists():
                    raise
                return _from_pretrained(AutoTokenizer, AutoModel, model, local_files_only=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"the text model {model!r} cannot be had ({reason}): name a folder with config.json, tokenizer files and "
            "model.safetensors, or a model on the Hugging Face hub while it can be reached"
        ) from error


def _from_pretrained(tokenizers: Any, models: Any, name: str, local_files_only: bool) -> tuple[Any, nn.Module]:
    options = {
        "pretrained_model_name_or_path": name,
        "local_files_only": local_files_only,
        "trust_remote_code": False,
    }
    tokenizer = tokenizers.from_pretrained(**options)
    return tokenizer, read_model(models, {**options, "use_safetensors": True, "dtype": torch.float32})
