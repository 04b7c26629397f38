"""What an embedding of a row is, as plain typed data that checks itself."""

from __future__ import annotations

from dataclasses import dataclass

from ray_itl.errors import ConfigError

KINDS = ("features", "gradient")
PROJECTIONS = ("gaussian", "sign")


def _require(condition: bool, option: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"embedding.{option}={value!r} cannot be used: {allowed}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass
class EmbeddingSettings:
    """How rows become embeddings."""

    kind: str = "features"
    """features: the last layer's input h (D numbers). gradient: the gradient of the cross-entropy with respect to the
    last layer's weights, the label being the likeliest class: (softmax(z) - onehot(argmax z)) x h, C * D numbers."""
    unit_norm: bool = False
    """Scale every embedding to Euclidean norm 1 (one of zeros stays as it is)."""
    projection_dim: int | None = None
    """Project gradients to so many numbers, keeping inner products on average. null: not at all."""
    projection: str = "gaussian"
    """gaussian, sign."""
    projection_seed: int = 0
    """Fixes the projection. Only embeddings of one seed can be compared."""
    batch_size: int = 64
    """Rows the model is given at a time. Rows are batched by their number in the pool, so that an embedding does not
    depend on how the pool is split; another batch size may change the last bits."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _require(self.kind in KINDS, "kind", self.kind, f"use one of {', '.join(KINDS)}")
        _require(isinstance(self.unit_norm, bool), "unit_norm", self.unit_norm, "give true or false")
        projected = self.projection_dim is not None
        usable = not projected or (self.kind == "gradient" and _is_count(self.projection_dim))
        _require(usable, "projection_dim", self.projection_dim, "give a whole number >= 1 with kind=gradient, or null")
        _require(self.projection in PROJECTIONS, "projection", self.projection, f"use one of {', '.join(PROJECTIONS)}")
        seed = self.projection_seed
        whole = isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63
        _require(whole, "projection_seed", seed, "give a whole number from 0 to 2^63 - 1")
        _require(_is_count(self.batch_size), "batch_size", self.batch_size, "give a whole number of at least 1")
