"""Options that say what rows there are: the pool, the target sample, and what is known or to be avoided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray_itl.options import are_distinct_names, is_positive, require

FEATURE_MAPS = ("as_is", "unit_norm", "random_fourier")
STORAGES = ("auto", "memory", "disk")
DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass
class PoolSettings:
    """Where the candidate rows are and how to read them."""

    path: Any = None
    """File, folder, glob or URI of Parquet (or a list of them); null runs on the shipped digits."""
    id_column: str = "id"
    embedding_column: str = "embedding"
    columns: list[str] = field(default_factory=list)
    """Further columns to carry into selection.parquet."""
    filter: str | None = None
    """Only rows that meet this condition are candidates, like: lang = 'en' and tokens < 2048."""
    features: str = "as_is"
    """as_is, unit_norm, or random_fourier (RBF kernel)."""
    fourier_features: int = 1024
    lengthscale: float = 1.0
    prior_covariance: str | None = None
    """A .npy file of a D x D weight covariance; the linear kernel becomes x'Sigma x'."""
    dtype: str = "float32"
    """Storage of features in the shards; decisions are always float64."""
    storage: str = "auto"
    """memory; disk: a cache on each shard's machine, read once a pass; auto: disk if memory does not hold them."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        for option in ("id_column", "embedding_column"):
            value = getattr(self, option)
            require(isinstance(value, str) and value != "", f"pool.{option}", value, "name a column")
        distinct = are_distinct_names(self.columns)
        require(distinct, "pool.columns", self.columns, "give a list of column names, each once")
        stated = self.filter is None or (isinstance(self.filter, str) and self.filter.strip() != "")
        require(stated, "pool.filter", self.filter, "give a condition like tokens < 2048, or null")
        require(self.features in FEATURE_MAPS, "pool.features", self.features, f"use one of {', '.join(FEATURE_MAPS)}")
        require(self.dtype in DTYPES, "pool.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")
        require(self.storage in STORAGES, "pool.storage", self.storage, f"use one of {', '.join(STORAGES)}")
        even = isinstance(self.fourier_features, int) and self.fourier_features > 0 and self.fourier_features % 2 == 0
        require(even, "pool.fourier_features", self.fourier_features, "give a positive even number")
        require(is_positive(self.lengthscale), "pool.lengthscale", self.lengthscale, "give a positive number")


@dataclass
class TargetSettings:
    """The sample of the task that the picks should teach about."""

    path: Any = None
    embedding_column: str = "embedding"
    weight_column: str | None = None
    """Column of target weights >= 0: weight 2 counts as listing the target twice. null: all 1."""
    id_column: str | None = None
    """Column that names a target in the report. null: its row number."""
    task_column: str | None = None
    """Column that says which of several tasks a target belongs to: their gains are summed. null: one task."""
    task_weights: dict[str, float] = field(default_factory=dict)
    """Task -> how much its gain counts, > 0; those not named count 1."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        weights = self.task_weights.values()
        positive = all(is_positive(weight) for weight in weights)
        require(positive, "target.task_weights", dict(self.task_weights), "give positive numbers")
        together = not self.task_weights or self.task_column is not None
        require(together, "target.task_weights", dict(self.task_weights), "set target.task_column, too")


@dataclass
class KnownSettings:
    """Rows that the model has learnt from already: the posterior is conditioned on them before the first pick."""

    path: Any = None
    embedding_column: str = "embedding"


@dataclass
class AvoidSettings:
    """A sample of what the picks should say nothing about: the gain about it is subtracted."""

    path: Any = None
    embedding_column: str = "embedding"
    weight: float = 1.0
    """How much of it is subtracted."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        require(is_positive(self.weight), "avoid.weight", self.weight, "give a positive number")
