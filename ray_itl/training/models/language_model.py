"""Causal language models of transformers as learners, with or without low-rank adapters (LoRA).

Needs the extra `text`. Weights are read from safetensors or GGUF only, and no code that comes with a model is run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.schema import which_row
from ray_itl.training.chat import WITHOUT_TEMPLATE, chat_tokens, has_template, is_chat, marks_turns
from ray_itl.training.inputs import ANSWERS, decode_texts, trim_padding
from ray_itl.training.learner import Inputs, Learner
from ray_itl.training.models.pretrained import read_model, without_bars

_GGUF = ".gguf"
_POOLINGS = ("mean", "position_weighted")


class CausalLm(Learner):
    """A causal language model; its features are a mean of the last hidden states over the tokens of a text.

    Every text is preceded by a start token, which is given and not predicted: so each byte of a text belongs to a
    predicted token. The start token has no part in the features, since its state is the same for every text and often
    far larger than the others.
    """

    def __init__(
        self,
        path: str,
        max_tokens: int = 256,
        lora_rank: int = 0,
        lora_alpha: int | None = None,
        lora_modules: Sequence[str] | None = None,
        start_token: str | None = None,
        dtype: str = "float32",
        revision: str | None = None,
        pooling: str = "mean",
    ) -> None:
        """Read a model.

        Args:
            path: A local folder, a hub name, or a local .gguf file (whose weights are dequantised; needs `gguf`, and
                is slow to read: see `convert_gguf`).
            max_tokens: Tokens of a text that are read, without the start token; the rest is cut off.
            lora_rank: Rank of trained adapters, all else frozen (needs `peft`). 0: train all weights.
            lora_alpha: Scale of the adapters, which are multiplied by lora_alpha / lora_rank. None: 2 lora_rank.
            lora_modules: Names of the layers that get adapters. None: peft's choice for the architecture.
            start_token: The token that separates documents where the model was pretrained, as its card says. None: the
                tokenizer's start token, or its end token; of a chat model either may mark turns instead, which
                `remarks` then says.
            dtype: float32 or bfloat16.
            revision: Of a model on the hub: a commit or tag.
            pooling: The mean that features are: "mean", all tokens alike, or "position_weighted", token i of a text
                (from 1) with weight i, since it has read more (as in RDS+; Ivison et al., 2025, arXiv 2503.01807).

        Raises:
            ConfigError: a library is missing, the model cannot be read, or an option is out of range.
        """
        super().__init__()
        if max_tokens < 1 or lora_rank < 0 or dtype not in ("float32", "bfloat16"):
            raise ConfigError(
                f"model.options max_tokens={max_tokens}, lora_rank={lora_rank}, dtype={dtype!r} cannot be used: give "
                "at least 1, at least 0, and float32 or bfloat16"
            )
        if pooling not in _POOLINGS:
            raise ConfigError(f"model.options.pooling={pooling!r} cannot be used: use {' or '.join(_POOLINGS)}")
        self.max_tokens, self.pooling = max_tokens, pooling
        self.tokenizer, self.model = _read(path, revision, getattr(torch, dtype))
        self.start_token = _start_token(self.tokenizer, path, start_token)
        self._start_is_guessed = start_token is None
        if lora_rank:
            self.model = _with_lora(self.model, lora_rank, lora_alpha, lora_modules)
        self.feature_dim = self.model.config.get_text_config().hidden_size

    def encode(self, column: pa.Array) -> Inputs:
        """Return token ids, their mask (n x T int64, padded on the right) and num_bytes (n).

        T is the length of the longest text within the column; num_bytes counts the UTF-8 bytes of what was not cut off.
        Of conversations (see `chat`), which begin as the chat template says, there are also `answers` (n x T): 1 for
        the tokens that are trained on, and num_bytes counts those of the answers.
        """
        if is_chat(column.type):
            return self._encode_chats(column)
        texts = decode_texts(column)
        encoded = self.tokenizer(
            texts,
            truncation=True,
            max_length=self.max_tokens,
            add_special_tokens=False,
            return_offsets_mapping=True,
        )
        ids: list[list[int]] = encoded["input_ids"]
        empty = next((row for row, tokens in enumerate(ids) if not tokens), None)
        if empty is not None:
            raise InputError(f"{which_row('', empty)}: the text has no token; drop the row")
        kept = [text[: offsets[-1][1]] for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)]
        return self._padded([[self.start_token, *tokens] for tokens in ids], [len(text.encode()) for text in kept])

    def _encode_chats(self, column: pa.Array) -> Inputs:
        # A template writes its own start token; without one the text is preceded by it as any other.
        start = [] if has_template(self.tokenizer) else [self.start_token]
        chats = chat_tokens(self.tokenizer, column, self.max_tokens + 1 - len(start))
        inputs = self._padded([[*start, *chat.ids] for chat in chats], [chat.num_bytes for chat in chats])
        marks = [torch.tensor([*(False for _ in start), *chat.is_answer]) for chat in chats]
        answers = torch.nn.utils.rnn.pad_sequence(marks, batch_first=True)
        return {**inputs, ANSWERS: answers.long()}

    def _padded(self, ids: list[list[int]], num_bytes: list[int]) -> Inputs:
        rows = [torch.tensor(tokens) for tokens in ids]
        pad = torch.nn.utils.rnn.pad_sequence
        return {
            "input_ids": pad(rows, batch_first=True, padding_value=self.start_token),
            "attention_mask": pad([torch.ones_like(row) for row in rows], batch_first=True),
            "num_bytes": torch.tensor(num_bytes),
        }

    def remarks(self, kind: pa.DataType) -> list[str]:
        """Say so where conversations are read without a chat template, or texts begin as turns of a chat do."""
        if is_chat(kind):
            return [] if has_template(self.tokenizer) else [WITHOUT_TEMPLATE]
        token = self.tokenizer.convert_ids_to_tokens(self.start_token)
        if not (self._start_is_guessed and marks_turns(self.tokenizer, token)):
            return []
        return [
            f"texts are read after {token}, the tokenizer's own start, which marks turns in its chat template: losses "
            "are higher than after what parts documents; set model.options.start_token to that, which the model's card "
            "names (often <|endoftext|>)"
        ]

    def features(self, inputs: Inputs) -> Tensor:
        """Return the mean (see `pooling`) of the last hidden states over the tokens of each text, n x D float32."""
        inputs = trim_padding(inputs)
        # The layers below the output layer; under LoRA the adapters sit inside of them.
        states = self._causal().base_model(**inputs, use_cache=False).last_hidden_state.float()[:, 1:]
        weights = inputs["attention_mask"][:, 1:, None].to(states)
        if self.pooling == "position_weighted":
            weights = weights.cumsum(dim=1) * weights
        return (states * weights).sum(dim=1) / weights.sum(dim=1)

    def outputs(self, features: Tensor) -> Tensor:
        """Return the output layer's logits over the vocabulary, n x V."""
        head = self._causal().get_output_embeddings()
        return head(features.to(head.weight.dtype))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return token logits, n x T x V."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        return self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits

    def _causal(self) -> Any:
        """Return the transformers model, without peft around it."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model


def convert_gguf(path: str | Path, folder: str | Path) -> None:
    """Write the model of a .gguf file as a folder of float32 safetensors and tokenizer files.

    A language model of 135M parameters is then read in a second instead of the twenty (of one core) that its
    GGUF takes each time. The folder appears whole or not at all; one that is there already is left alone.

    Raises:
        ConfigError: a library is missing, or the file cannot be read.
        OSError: the folder cannot be written.
    """
    target = Path(folder)
    if target.exists():
        return
    tokenizer, model = _read(str(path), None, torch.float32)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        made = Path(temporary) / "model"
        with without_bars():
            _as_unquantised(model).save_pretrained(made)
            tokenizer.save_pretrained(made)
        made.rename(target)


def _as_unquantised(model: Any) -> Any:
    """Return a model of the same weights that transformers agrees to save: it refuses one that it dequantised."""
    config = type(model.config).from_dict(model.config.to_dict())
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    return plain


def _read(path: str, revision: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return tokenizer and model."""
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise ConfigError(
            'model.name=causal_lm needs transformers, which is not installed: pip install "ray_itl[text]"'
        ) from error
    place: dict[str, Any] = {"pretrained_model_name_or_path": path, "revision": revision or "main"}
    weights: dict[str, Any] = {"use_safetensors": True}
    if path.endswith(_GGUF):
        place = {"pretrained_model_name_or_path": str(Path(path).parent), "gguf_file": Path(path).name}
        weights = {}
    try:
        with without_bars():
            tokenizer = AutoTokenizer.from_pretrained(**place, trust_remote_code=False)
            options = {**place, **weights, "dtype": dtype, "trust_remote_code": False}
            model = read_model(AutoModelForCausalLM, options)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"model.options.path={path!r} cannot be read as a causal language model ({first}): give a folder with "
            "config.json, tokenizer.json and safetensors, a hub name, or a .gguf file (which needs gguf and accelerate)"
        ) from error
    if not tokenizer.is_fast:
        raise ConfigError(f"the tokenizer of {path!r} gives no character offsets: add a tokenizer.json to the model")
    return tokenizer, model


def _start_token(tokenizer: Any, path: str, name: str | None) -> int:
    if name is not None:
        if name not in tokenizer.get_vocab():
            raise ConfigError(f"model.options.start_token={name!r} is no token of {path!r}: name one of its tokens")
        return tokenizer.get_vocab()[name]
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise ConfigError(f"the tokenizer of {path!r} has neither a start nor an end token: set model.options.start_token")


def _with_lora(model: Any, rank: int, alpha: int | None, modules: Sequence[str] | None) -> Any:
    """Return the model with adapters whose product is zero at first, so that it still computes the same."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigError(
            'model.options.lora_rank needs peft, which is not installed: pip install "ray_itl[text]"'
        ) from error
    targets = None if modules is None else list(modules)
    scale = 2 * rank if alpha is None else alpha
    config = LoraConfig(r=rank, lora_alpha=scale, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"model.options.lora_modules={modules!r} cannot be used: {error}") from error
