"""What an embedding of a row is, and every other option of `ray-itl embed`, as plain data that checks itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ray_itl.observability.console import check_log
from ray_itl.options import are_distinct_names, is_whole, require

KINDS = ("features", "gradient")
PROJECTIONS = ("gaussian", "sign")
DTYPES = ("float32", "float16")
ID, EMBEDDING = "id", "embedding"
"""The columns that every embedded pool has."""


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


@dataclass
class RawPoolSettings:
    """Where the rows are and what of them is embedded."""

    path: Any = None
    """File, folder, glob or URI of Parquet (or a list of them)."""
    id_column: str = "id"
    raw_column: str = "text"
    """What the model reads: texts, PNG or JPEG bytes, or lists of numbers."""
    columns: list[str] = field(default_factory=list)
    """Further columns to carry along."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        for option in ("id_column", "raw_column"):
            value = getattr(self, option)
            require(isinstance(value, str) and value != "", f"pool.{option}", value, "name a column")
        distinct = are_distinct_names(self.columns, ID, EMBEDDING)
        allowed = f"give a list of column names, each once, other than {ID} and {EMBEDDING}, which the result has"
        require(distinct, "pool.columns", self.columns, allowed)


@dataclass
class EmbeddingModelSettings:
    """The model that embeds."""

    name: str = "sentence_encoder"
    """A registered model, or module:factory."""
    options: Any = None
    """Keyword arguments of the model as a mapping. null: none."""
    checkpoint: str | None = None
    """Its weights as safetensors, readable on every node. null: those it is built with."""
    seed: int = 0
    """Of the weights that no checkpoint gives."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        require(isinstance(self.name, str) and self.name != "", "model.name", self.name, "name a model")
        self.options = {} if self.options is None else self.options
        named = isinstance(self.options, dict) and all(isinstance(name, str) for name in self.options)
        require(named, "model.options", self.options, "give a mapping of names to values, as {classes: 10}")
        require(is_whole(self.seed, 0), "model.seed", self.seed, "give a whole number >= 0")


@dataclass
class OutputSettings:
    """How embeddings are stored."""

    dtype: str = "float32"
    """float32, float16."""
    part_rows: int = 8192
    """Rows of a file, rounded up to whole batches, and what an interrupted run may embed again for each worker."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        require(self.dtype in DTYPES, "output.dtype", self.dtype, f"use one of {', '.join(DTYPES)}")
        require(is_whole(self.part_rows, 1), "output.part_rows", self.part_rows, "give a whole number >= 1")


@dataclass
class WorkerSettings:
    """Where the model runs."""

    num_workers: Any = "auto"
    """Ray actors, each with a model; auto: as many as the cluster has room for; 0: in this process, without Ray."""
    address: str | None = None
    """A Ray cluster to connect to. null: the one this job runs on, else a Ray of its own on this machine."""
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    """Above 0, the model runs on the GPU."""
    start_deadline_s: float = 300.0
    """How long workers may wait for a place on the cluster."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if isinstance(self.num_workers, str) and self.num_workers.isdigit():
            self.num_workers = int(self.num_workers)
        count = self.num_workers == "auto" or is_whole(self.num_workers, 0)
        require(count, "cluster.num_workers", self.num_workers, "give auto or a whole number >= 0")
        for option in ("cpus_per_worker", "gpus_per_worker", "start_deadline_s"):
            value = getattr(self, option)
            or_none = option == "gpus_per_worker"
            fits = math.isfinite(value) and (value >= 0 if or_none else value > 0)
            require(fits, f"cluster.{option}", value, f"give a number {'>=' if or_none else '>'} 0")


@dataclass
class EmbedRunSettings:
    """Where results go."""

    dir: str | None = None
    """Run directory. The same command on the same directory continues an unfinished run. null: runs/<time>."""
    log: str = "auto"
    """auto: a live line on a terminal, else lines; lines; quiet: errors and the last line; json: objects on stdout."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        check_log(self.log)


@dataclass
class EmbedJobSettings:
    """Everything that `ray-itl embed` takes."""

    pool: RawPoolSettings = field(default_factory=RawPoolSettings)
    model: EmbeddingModelSettings = field(default_factory=EmbeddingModelSettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    cluster: WorkerSettings = field(default_factory=WorkerSettings)
    run: EmbedRunSettings = field(default_factory=EmbedRunSettings)
