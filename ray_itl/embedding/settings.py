"""Every option of embedding a raw pool, and what an embedding is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray_itl.observability.settings import log_option
from ray_itl.options.checks import (
    Check,
    any_seed,
    auto_or_whole,
    column_name,
    distinct_names,
    is_positive,
    number_at_least,
    one_of,
    positive,
    require,
    true_or_false,
    whole,
)
from ray_itl.options.declare import Options, option
from ray_itl.runs.paths import absolute_path
from ray_itl.sources.settings import ID_MEANING, bad_row_option

KINDS = ("features", "gradient", "lora_gradient")
SKETCH_DIM = 8192
"""Numbers of a gradient of adapters by default, as of LESS."""
PROJECTIONS = ("gaussian", "sign")
DTYPES = ("float32", "float16")
PRECISIONS = ("auto", "float32", "bfloat16")
ID, EMBEDDING = "id", "embedding"
"""The columns that every embedded pool has."""

_FILES = ("path", "second_moments")
"""What of a moment names a file."""
_WITH_GRADIENTS = "give a whole number >= 1 with kind=gradient or kind=lora_gradient, or null"
_AT_LEAST_ONE = whole(1).said("give a whole number >= 1")
_AT_LEAST_ZERO = whole(0).said("give a whole number >= 0")
_ABOVE_ZERO = positive.said("give a number > 0")
_CARRIED = distinct_names(ID, EMBEDDING).said(
    f"give a list of column names, each once, other than {ID} and {EMBEDDING}, which the result has"
)
MOMENTS = Check(
    "give a list as [{path: a.safetensors, learning_rate: 2e-5}], each path a checkpoint and each rate above 0, and "
    "either to all or to none of them a file of second_moments",
    lambda value: isinstance(value, list) and all(map(_is_moment, value)) and _are_alike(value),
)
_KEYWORDS = Check(
    "give a mapping of names to values, as {classes: 10}",
    lambda value: isinstance(value, dict) and all(isinstance(name, str) for name in value),
)


def with_absolute_paths_of(checkpoints: list[Any]) -> list[Any]:
    """Return several checkpoints with absolute paths."""
    return [{**each, **{name: absolute_path(each[name]) for name in _FILES if name in each}} for each in checkpoints]


def _is_moment(value: object) -> bool:
    if not isinstance(value, dict) or not {"path"} <= value.keys() <= {*_FILES, "learning_rate"}:
        return False
    are_files = all(isinstance(value[name], str) for name in _FILES if name in value)
    return are_files and is_positive(value.get("learning_rate", 1.0))


def _are_alike(moments: list[Any]) -> bool:
    return len({"second_moments" in each for each in moments}) <= 1


@dataclass
class EmbeddingSettings(Options, group="embedding"):
    """How rows become embeddings."""

    kind: str = option(
        "features",
        "features: the last layer's input h (D numbers). gradient: the gradient of the cross-entropy with respect to "
        "the last layer's weights, the label being the likeliest class: (softmax(z) - onehot(argmax z)) x h, C * D "
        "numbers. lora_gradient: of a text's own loss (mean over its predicted tokens) with respect to the adapters "
        "of causal_lm.",
        one_of(*KINDS),
    )
    unit_norm: bool = option(
        False, "Scale every embedding to Euclidean norm 1 (one of zeros stays as it is).", true_or_false
    )
    projection_dim: int | None = option(
        None,
        "Project gradients to so many numbers, keeping inner products on average. null: not at all; for lora_gradient "
        f"{SKETCH_DIM}.",
        whole(1).said(_WITH_GRADIENTS),
    )
    projection: str = option("gaussian", "Entries of the random projection for kind=gradient.", one_of(*PROJECTIONS))
    projection_seed: int = option(0, "Fixes the projection. Only embeddings of one seed can be compared.", any_seed)
    batch_size: int = option(
        64,
        "Rows the model is given at a time. Rows are batched by their number in the pool, so that an embedding does "
        "not depend on how the pool is split; another batch size may change the last bits. Texts of models of "
        "sentence-transformers go by embedding.batch_tokens.",
        whole(1),
    )
    batch_tokens: int | None = option(
        None,
        "Tokens, padding included, that a model of sentence-transformers is given at a time. null: 2048, and 32768 on "
        "a GPU. Likewise for lora_gradient; null: 1024, and 4096 on a GPU.",
        _AT_LEAST_ONE,
        decides=False,  # encoders that have a use for it say so themselves; likewise:
    )
    precision: str = option(
        "auto",
        "In what models of sentence-transformers and timm compute. auto: bfloat16 where the processor or GPU has it, "
        "and embeddings of a sample hardly differ from those in float32 (by how much is said), else float32. Models "
        "that come along compute in float32.",
        one_of(*PRECISIONS),
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        usable = self.projection_dim is None or self.kind != "features"
        require(usable, "embedding.projection_dim", self.projection_dim, _WITH_GRADIENTS)
        if self.kind == "lora_gradient":
            allowed = "it says nothing of kind=lora_gradient; leave it out"
            require(self.projection == "gaussian", "embedding.projection", self.projection, allowed)
            self.projection_dim = self.projection_dim or SKETCH_DIM


@dataclass
class RawPoolSettings(Options, group="pool"):
    """Where the rows are and what of them is embedded."""

    path: Any = option(
        None,
        "The rows: a file, folder, glob or URI (s3://, gs://, hf://) of Parquet, JSON lines, CSV or images, or a list "
        "of them; or a table.",
        decides=False,
    )
    id_column: str | None = option("id", ID_MEANING, column_name, decides=False)
    raw_column: str = option(
        "text", "What the model reads: texts, conversations, encoded images, or lists of numbers.", column_name
    )
    columns: list[str] = option([], "Further columns to carry along, as [a,b].", _CARRIED)
    on_bad_row: str = bad_row_option(
        "rows cannot be embedded (null, blank, undecodable, of another length)",
        "refuse, once all others are",
        "they are left out",
    )


@dataclass
class EmbeddingModelSettings(Options, group="model"):
    """The model that embeds."""

    name: str = option(
        "sentence_encoder",
        "A model of sentence-transformers by name or folder, as sentence-transformers/all-MiniLM-L6-v2 (texts; some, "
        "like CLIP, images, too); of timm, as timm/resnet18.a1_in1k (images); one that comes along: sentence_encoder | "
        "efficientnet_lite0 | mlp | mnist_cnn | causal_lm; or module:factory of a model, or of a function from a list "
        "of values to an array.",
        column_name.said("name a model"),
    )
    options: Any = option(
        None,
        "Its keyword arguments as a mapping, as {classes: 10}; of sentence-transformers prompt, truncate_dim, "
        "max_tokens and revision, of timm side. null: none.",
        _KEYWORDS,
    )
    checkpoint: str | None = option(
        None,
        "Its weights as safetensors, readable on every node. null: those it is built with.",
        decides=False,  # a digest of the weights does
    )
    seed: int = option(0, "Of the weights that no checkpoint gives.", _AT_LEAST_ZERO, decides=False)
    checkpoints: list[Any] = option(
        [],
        "For embedding.kind=lora_gradient, in place of one checkpoint several of one training, as [{path: "
        "a.safetensors, learning_rate: 2e-5}]: inner products are the mean of those at each, weighted by the learning "
        "rates there (1 where it is not said). With second_moments: b.safetensors to each, Adam's means of squared "
        "gradients (training.keep_second_moments), gradients are divided by their fourth roots.",
        MOMENTS,
        decides=False,  # a digest of the weights and rates does
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        self.options = {} if self.options is None else self.options
        super().__post_init__()


@dataclass
class OutputSettings(Options, group="output"):
    """How embeddings are stored."""

    dtype: str = option("float32", "", one_of(*DTYPES))
    part_rows: int = option(
        8192,
        "Rows of a part, rounded up to whole batches, and what an interrupted run may embed again for each worker. The "
        "last part of each file of the pool may have fewer.",
        _AT_LEAST_ONE,
    )


@dataclass
class WorkerSettings(Options, group="cluster"):
    """Where the model runs."""

    num_workers: Any = option(
        "auto",
        "Ray actors, each with a model; auto: as many as the cluster has room for now; 0: in this process, without "
        "Ray.",
        auto_or_whole,
        decides=False,
    )
    address: str | None = option(
        None,
        "A Ray cluster to connect to. null: the one this job runs on, else a Ray of its own on this machine.",
        decides=False,
    )
    cpus_per_worker: float = option(1.0, "CPUs a worker reserves.", _ABOVE_ZERO, decides=False)
    gpus_per_worker: float = option(
        0.0, "GPUs a worker reserves; above 0, the model runs on the GPU.", number_at_least(0), decides=False
    )
    start_deadline_s: float = option(
        300.0, "Seconds that workers may wait for a place on the cluster.", _ABOVE_ZERO, decides=False
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if isinstance(self.num_workers, str) and self.num_workers.isdigit():
            self.num_workers = int(self.num_workers)
        super().__post_init__()


@dataclass
class EmbedRunSettings(Options, group="run"):
    """Where results go."""

    dir: str | None = option(
        None,
        "Run directory. The same command on the same directory continues an unfinished run. null: runs/<time>.",
        decides=False,
    )
    log: str = log_option()


@dataclass
class EmbedJobSettings(Options):
    """Everything that the embedding of a pool takes."""

    pool: RawPoolSettings = field(default_factory=RawPoolSettings)
    model: EmbeddingModelSettings = field(default_factory=EmbeddingModelSettings)
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    cluster: WorkerSettings = field(default_factory=WorkerSettings)
    run: EmbedRunSettings = field(default_factory=EmbedRunSettings)
    plan: bool = option(
        False, "Say what the run would take (time, disk), by a sample embedded just now, and stop.", decides=False
    )
