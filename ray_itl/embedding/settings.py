"""Every option of jobs/embed.py, as plain typed dataclasses that check themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ray_itl.option_checks import are_distinct_names, is_whole, require
from ray_itl.telling.choice import check_log
from ray_itl.training.embedding_parts import DTYPES, EMBEDDING, ID
from ray_itl.training.embedding_settings import EmbeddingSettings


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
class EmbedSettings:
    """Everything that `jobs/embed.py` takes."""

    pool: RawPoolSettings = field(default_factory=RawPoolSettings)
    model: EmbeddingModelSettings = field(default_factory=EmbeddingModelSettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    cluster: WorkerSettings = field(default_factory=WorkerSettings)
    run: EmbedRunSettings = field(default_factory=EmbedRunSettings)
