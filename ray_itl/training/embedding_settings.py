"""What an embedding of a row is, as plain typed data that checks itself."""

from __future__ import annotations

from dataclasses import dataclass

from ray_itl.option_checks import is_whole, require

KINDS = ("features", "gradient")
PROJECTIONS = ("gaussian", "sign")


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
        require(self.kind in KINDS, "embedding.kind", self.kind, f"use one of {', '.join(KINDS)}")
        require(isinstance(self.unit_norm, bool), "embedding.unit_norm", self.unit_norm, "give true or false")
        projected = self.projection_dim is not None
        usable = not projected or (self.kind == "gradient" and is_whole(self.projection_dim, 1))
        require(
            usable,
            "embedding.projection_dim",
            self.projection_dim,
            "give a whole number >= 1 with kind=gradient, or null",
        )
        require(
            self.projection in PROJECTIONS,
            "embedding.projection",
            self.projection,
            f"use one of {', '.join(PROJECTIONS)}",
        )
        seed = self.projection_seed
        whole = is_whole(seed, 0) and seed < 2**63
        require(whole, "embedding.projection_seed", seed, "give a whole number from 0 to 2^63 - 1")
        require(
            is_whole(self.batch_size, 1), "embedding.batch_size", self.batch_size, "give a whole number of at least 1"
        )
