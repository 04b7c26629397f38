"""The options of an encoder that embeds rows on their way into a selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray_itl.embedding.settings import KINDS, MOMENTS, PRECISIONS
from ray_itl.options.checks import Check, column_name, one_of, size, text, true_or_false, whole
from ray_itl.options.declare import Options, option

_KEYWORDS = Check(
    "give a mapping of names to values, as {prompt: query}",
    lambda value: isinstance(value, dict) and all(isinstance(name, str) for name in value),
)
_AT_LEAST_ONE = whole(1).said("give a whole number >= 1")


@dataclass
class EncoderSettings(Options, group="encoder"):
    """What embeds rows that have no embeddings: pool, target, known, avoid and heldout, by one model.

    Embeddings are kept by what was embedded: later runs and ticks embed only rows that were never seen.
    """

    name: str | None = option(
        None,
        "A model as model.name of ray-itl embed says: of sentence-transformers or timm, by name or folder, or "
        "module:factory of a function from a list of values to an array. null: all rows have embeddings.",
        column_name.said("name a model"),
        decides=False,  # what the encoder says of itself does, as soon as it embeds anything
        spelled="encoder",
    )
    options: Any = option(
        None,
        "Its keyword arguments as a mapping, as model.options of ray-itl embed. null: none.",
        _KEYWORDS,
        decides=False,
    )
    checkpoint: str | None = option(
        None, "Its weights as safetensors, readable on every node. null: those it is built with.", decides=False
    )
    checkpoints: list[Any] = option(
        [],
        "Several, for encoder.kind=lora_gradient, as model.checkpoints of ray-itl embed says.",
        MOMENTS,
        decides=False,
    )
    kind: str = option(
        "features",
        "What of the model is the embedding, as embedding.kind of ray-itl embed says.",
        one_of(*KINDS),
        decides=False,
    )
    unit_norm: bool = option(
        False,
        "Scale every embedding to Euclidean norm 1, and gradients at each checkpoint.",
        true_or_false,
        decides=False,
    )
    projection_dim: int | None = option(
        None,
        "Numbers that gradients are projected to, as embedding.projection_dim of ray-itl embed says.",
        _AT_LEAST_ONE,
        decides=False,
    )
    precision: str = option(
        "float32",
        "In what models of sentence-transformers and timm compute; bfloat16 and auto as embedding.precision of ray-itl "
        "embed says. In float32 a model is the same one, and its embeddings are known, on any machine.",
        one_of(*PRECISIONS),
        decides=False,
    )
    batch_size: int = option(
        64, "Rows the model is given at a time, but for texts that go by tokens.", whole(1), decides=False
    )
    batch_tokens: int | None = option(
        None,
        "Tokens, padding included, that a model of sentence-transformers is given at a time. null: 2048, and 32768 on "
        "a GPU.",
        _AT_LEAST_ONE,
        decides=False,
    )
    cache: str | None = option(
        None,
        "Folder or URI where embeddings are kept. null: $RAY_ITL_CACHE/embeddings, else ~/.cache/ray_itl/embeddings, "
        "of each machine: with several, name a folder that all reach.",
        text.said("name a folder or URI, or null"),
        decides=False,
    )
    cache_limit: str | None = option(
        None,
        "Size that all that is kept there may have, like 500GiB: what was not used for longest goes. null: a tenth of "
        "the disk stays free.",
        size,
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        self.options = {} if self.options is None else self.options
        super().__post_init__()
