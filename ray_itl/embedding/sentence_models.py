"""Encoders of sentence-transformers: any model of its by name or folder, of texts or, like CLIP, of images, too."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ray_itl.embedding.batches import by_length
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.embedding.torch_encoder import Batch, TorchEncoder
from ray_itl.errors import ConfigError, InputError
from ray_itl.extras import load_extra
from ray_itl.options.checks import is_whole, require
from ray_itl.text import without_colours
from ray_itl.training.chat import WITHOUT_TEMPLATE, chat_texts, has_template, is_chat
from ray_itl.training.inputs import decode_pictures, decode_texts, is_text
from ray_itl.training.models.pretrained import without_bars
from ray_itl.training.seeds import drawing_from

_WINDOW = 4096
"""Texts that are sorted by length together: 2% of what a model then computes is padding, of glosses."""
_TOKENS = {"cpu": 2048, "cuda": 32768}
"""Tokens of a batch by default."""
_SAMPLE = (
    "A dog.",
    "The committee postponed its decision until the figures for the third quarter had been audited.",
    "def area(r): return 3.14159 * r ** 2",
    "Proteine werden an den Ribosomen aus Aminosäuren aufgebaut.",
    'the state of being free from illness or injury; "a nation\'s health"',
)
_LOGGER = "transformers.modeling_utils"
_POOLER = "pooler."
"""Part of the names of weights that many files lack and no sentence embedding uses."""


@dataclass(frozen=True)
class SentenceOptions:
    """Further options of a model of sentence-transformers: model.options."""

    prompt: str | None = None
    """Put before every text: the name of one of the model's prompts, or the text itself. None: the model's default."""
    truncate_dim: int | None = None
    """Keep so many numbers, the first, of models that were trained for it. None: all."""
    max_tokens: int | None = None
    """Longer texts are cut. None: what the model says."""
    revision: str | None = None
    """Of a model on the hub: a branch, tag or commit. None: the newest."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        for name, least in (("truncate_dim", 1), ("max_tokens", 2)):
            value = getattr(self, name)
            allowed = f"give a whole number of at least {least}"
            require(value is None or is_whole(value, least), f"model.options.{name}", value, allowed)


class SentenceModelEncoder(TorchEncoder):
    """Embeddings as `SentenceTransformer.encode` computes them, from batches without padding to speak of."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        how: EmbeddingSettings,
        device: str = "cpu",
        sample: pa.Array | None = None,
    ) -> None:
        """See `TorchEncoder`; `options` are those of `SentenceOptions`."""
        self.options = SentenceOptions(**options)
        self.window = _WINDOW
        self._tokens = how.batch_tokens or _TOKENS["cpu" if device == "cpu" else "cuda"]
        self.prompt: str | None = None
        super().__init__(name, how, device, sample)

    def read(self) -> nn.Module:
        """Return the model, checked."""
        model = read_sentence_model(self.name, self.options.revision)
        self.prompt = _prompt(model, self.options.prompt)
        if self.options.max_tokens is not None:
            most = model.max_seq_length or self.options.max_tokens
            model.max_seq_length = min(self.options.max_tokens, most)
        self.config_digest = _config_digest(model)
        self.has_precisions = _is_transformer(model)
        self._is_plain = _is_plain(model, self.prompt)
        if not _has_modules(self.name):
            told = "has no modules.json: its token features are averaged, as sentence-transformers does for such models"
            self.notes = (f"model.name={self.name!r} {told}",)
        return model.eval().requires_grad_(False)

    def lower(self, model: Any, dtype: torch.dtype) -> nn.Module:
        """Return the model with its transformer in `dtype`; pooling and what follows stay in float32."""
        model[0].to(dtype)
        model[0].register_forward_pre_hook(lambda _, given: (_floats_to(given[0], dtype), *given[1:]))
        model[0].register_forward_hook(lambda _, __, made: _floats_to(made, torch.float32))
        return model

    def sample_column(self) -> pa.Array:
        """Return a few sentences."""
        return pa.array(_SAMPLE)

    def prepare(self, column: pa.Array) -> list[Batch]:
        """Return batches of texts by length, or of encoded images as they come."""
        model = self.model()
        if is_chat(column.type):
            texts = chat_texts(model.tokenizer, column)
        elif is_text(column):
            texts = decode_texts(column)
        else:
            return list(self._of_images(model, column))
        return list(self._plain(model, texts) if self._is_plain else self._of_any(model, texts))

    def remarks(self, kind: pa.DataType) -> list[str]:
        """Say so where conversations are read without a chat template."""
        return [WITHOUT_TEMPLATE] if is_chat(kind) and not has_template(self.model().tokenizer) else []

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Return the sentence embeddings."""
        rows = model(dict(inputs))["sentence_embedding"].float()
        most = self.options.truncate_dim
        if most is not None and most > rows.shape[1]:
            raise ConfigError(f"model.options.truncate_dim={most} cannot be used: the model gives {rows.shape[1]}")
        return rows[:, :most]

    def identity(self) -> dict[str, str]:
        """Return what decides an embedding."""
        return {
            "encoder": "sentence-transformers",
            **super().identity(),
            "configuration of the model": self.config_digest,
            "model.options": json.dumps({"prompt": self.prompt, "truncate_dim": self.options.truncate_dim}),
            "embedding.batch_tokens": repr(self._tokens),
        }

    def _plain(self, model: Any, texts: list[str]) -> Iterator[Batch]:
        """Yield batches of token ids that are padded once it is known who is together with whom."""
        tokenizer, prompt = model.tokenizer, self.prompt or ""
        tokens = tokenizer([prompt + text for text in texts], padding=False, truncation="longest_first")
        for rows in by_length([len(ids) for ids in tokens["input_ids"]], self._tokens):
            own = {name: [values[row] for row in rows] for name, values in tokens.items()}
            yield Batch(rows, dict(tokenizer.pad(own, return_tensors="pt")))

    def _of_any(self, model: Any, texts: list[str]) -> Iterator[Batch]:
        """Yield batches as the model's own first module makes them, which takes lengths in letters for its measure."""
        letters = [len(text) // _LETTERS + 1 for text in texts]
        for rows in by_length(letters, self._tokens):
            yield Batch(rows, model.preprocess([texts[row] for row in rows], prompt=self.prompt))

    def _of_images(self, model: Any, column: pa.Array) -> Iterator[Batch]:
        if "image" not in model.modalities:
            raise InputError(
                f"the column has type {column.type}, but model.name={self.name!r} reads {', '.join(model.modalities)}: "
                "name another column, or a model for images"
            )
        pictures = decode_pictures(column)
        for start in range(0, len(pictures), self.how.batch_size):
            some = pictures[start : start + self.how.batch_size]
            yield Batch(np.arange(start, start + len(some)), model.preprocess(some))


_HUB_TIMEOUT_S = 10.0
_LETTERS = 4
"""Of a token, about."""


def read_sentence_model(name: str, revision: str | None = None) -> Any:
    """Return a SentenceTransformer on the CPU, in float32: a copy on this machine before one on the hub.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        InputError: there is no such model, it cannot be reached, or its files lack weights.
    """
    library: Any = load_extra("sentence_transformers", f"model.name={name!r}", "text")

    def read(here: bool) -> Any:
        with without_bars(), _missing_weights() as missing, drawing_from(0):
            made = library.SentenceTransformer(
                name,
                device="cpu",
                revision=revision,
                local_files_only=here,
                trust_remote_code=False,
                model_kwargs={"dtype": torch.float32},
            )
        if missing:
            raise ValueError(f"its files lack {len(missing)} weights of the model, as {missing[0]}")
        return made

    try:
        try:
            return read(here=True)
        except OSError:
            if Path(name).exists():
                raise
            _reach_hub(name)
            return read(here=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model.name={name!r} cannot be had ({reason}): name a folder that sentence-transformers or transformers "
            "wrote, a model on the Hugging Face hub while it can be reached (or is in HF_HOME), a model that comes "
            "along, or module:factory"
        ) from error


def _reach_hub(name: str) -> None:
    """Raise OSError where the hub does not answer, which libraries find out for each file, in a minute and a half."""
    hub: Any = load_extra("huggingface_hub", f"model.name={name!r}", "text")
    try:
        hub.HfApi().model_info(name, timeout=_HUB_TIMEOUT_S)
    except hub.errors.HfHubHTTPError:
        return  # it answered; what it lacks the library says
    except Exception as error:  # of whatever it is that speaks HTTP, or as HF_HUB_OFFLINE is set
        offline = type(error).__name__ == "OfflineModeIsEnabled"
        why = "HF_HUB_OFFLINE is set" if offline else "the Hugging Face hub cannot be reached"
        raise OSError(f"it is not on this machine, and {why}") from error


@contextmanager
def _missing_weights() -> Iterator[list[str]]:
    """Collect the names of weights that files lack, which would be drawn at random; transformers only logs them."""
    missing: list[str] = []

    class Report(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            names = re.findall(r"^(\S+)\s*\|\s*MISSING", without_colours(record.getMessage()), re.MULTILINE)
            missing.extend(name for name in names if _POOLER not in name)

    logger, handler = logging.getLogger(_LOGGER), Report()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield missing
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _prompt(model: Any, asked: str | None) -> str | None:
    """Return the text that is put before others, if there is one."""
    if asked is None:
        return model.prompts.get(model.default_prompt_name) or None
    if asked in model.prompts:
        require(
            model.prompts[asked] != "",
            "model.options.prompt",
            asked,
            f"the model has no prompt for {asked}; give the text itself, as '{asked}: '",
        )
        return model.prompts[asked]
    return asked


def _is_transformer(model: Any) -> bool:
    return type(model[0]).__name__ == "Transformer"


def _is_plain(model: Any, prompt: str | None) -> bool:
    """Whether the first module is a transformer that reads what its tokenizer says, and nothing else."""
    first = model[0]
    return (
        _is_transformer(model)
        and getattr(first, "processor", None) is model.tokenizer
        and list(getattr(first, "modalities", [])) == ["text"]
        and not getattr(first, "processing_kwargs", None)
        and not getattr(first, "query_expansion", None)
        and not getattr(first, "can_flatten_inputs", False)
        and (prompt is None or all(getattr(module, "include_prompt", True) for module in model))
    )


def _has_modules(name: str) -> bool:
    """Whether a folder says what follows the transformer; those on the hub are not looked at."""
    return not Path(name).is_dir() or (Path(name) / "modules.json").exists()


def _config_digest(model: Any) -> str:
    """Return a SHA-256 of what decides an embedding besides weights: tokens, architecture, and what follows."""
    first = model[0]
    tokens = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    parts: list[Any] = [model.max_seq_length]
    if tokens is not None:
        told = json.loads(tokens.to_str())
        parts.append({name: value for name, value in told.items() if name not in ("padding", "truncation")})
    config = getattr(first, "config", None)
    if config is not None:
        parts.append({name: value for name, value in config.to_diff_dict().items() if name not in _VOLATILE})
    parts += [type(module).__name__ for module in model]
    parts += [module.get_config_dict() for module in list(model)[1:] if hasattr(module, "get_config_dict")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


def _floats_to(features: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in features.items()
    }
