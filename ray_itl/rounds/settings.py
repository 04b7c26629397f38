"""Every option of jobs/finetune.py.

Every option of active fine-tuning, as plain typed dataclasses that check themselves.

Options of jobs/finetune.py beyond those of one fine-tuning: a prepared task, and a sweep.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ray_itl.curation.settings import AcquisitionSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.observability.console import check_log
from ray_itl.observability.settings import TrackingSettings
from ray_itl.sources.settings import DTYPES
from ray_itl.training.settings import TrainingSettings

EMBEDDINGS = ("features", "gradient", "column")
START_WEIGHTS = ("warm", "head", "fresh")
LABEL_SOURCES = ("column", "callable", "people")
TRAINERS = ("local", "ray", "ray_long_lived")


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option}={value!r} cannot be used: use one of {', '.join(allowed)}")


def _whole(option: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{option}={value!r} cannot be used: give a whole number of at least {least}")


@dataclass
class DataSettings:
    """The rows: a pool to pick from, a sample of the task, and held-out rows of the task to score on."""

    pool: Any = None
    """Parquet of candidates: file, folder, glob, URI or a list of them."""
    target: Any = None
    """Parquet of the target sample; needs no labels."""
    heldout: Any = None
    """Parquet of held-out rows of the task, labelled where the objective needs it."""
    id_column: str = "id"
    raw_column: str = "embedding"
    """What the model reads: text, image bytes or arrays of numbers. In all three."""
    label_column: str = "label"
    """In heldout, and in the pool where labels.source=column."""
    classes: list[Any] = field(default_factory=list)
    """Labels of the task, in the order of the model's outputs; for causal_lm they only count picks on task."""
    others: str = "drop"
    """Picked rows of other labels cost budget and are: drop (not trained on), or class (one more output, the last)."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _one_of("data.others", self.others, ("drop", "class"))
        for option in ("id_column", "raw_column", "label_column"):
            value = getattr(self, option)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"data.{option}={value!r} cannot be used: name a column")


@dataclass
class ModelSettings:
    """The model that is fine-tuned."""

    name: str = "mlp"
    """A registered learner, or module:factory."""
    options: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    """Safetensors to begin from. null: fresh weights by seed."""
    objective: str = "classification"
    """classification or causal_lm."""
    start: str = "warm"
    """Where a round's training starts: warm (the last weights), head (those, with a fresh output layer), or fresh."""
    trainable_only: bool = False
    """Checkpoints hold only trained parameters (LoRA)."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _one_of("model.start", self.start, START_WEIGHTS)
        _one_of("model.objective", self.objective, ("classification", "causal_lm"))


@dataclass
class RoundEmbeddingSettings:
    """How rows become the features that selection works on."""

    kind: str = "features"
    """features (last layer), gradient (of the output layer, hallucinated labels), or column (given embeddings)."""
    column: str | None = None
    """For kind=column: the embedding column of pool and target."""
    projection_dim: int | None = None
    """Random projection of gradients to so many dimensions. null: none."""
    unit_norm: bool = False
    batch_size: int = 256
    every: int = 1
    """Embed anew every so many rounds."""
    dtype: str = "float32"
    """Storage in the shards."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _one_of("embedding.kind", self.kind, EMBEDDINGS)
        _one_of("embedding.dtype", self.dtype, DTYPES)
        _whole("embedding.every", self.every, 1)
        _whole("embedding.batch_size", self.batch_size, 1)
        if self.projection_dim is not None:
            _whole("embedding.projection_dim", self.projection_dim, 1)
        if (self.kind == "column") != (self.column is not None):
            raise ConfigError("embedding.column goes with embedding.kind=column, and only with it: set both or neither")


@dataclass
class CandidateSettings:
    """Which rows compete in a round."""

    which: str = "all"
    """all; random (a sample each round); best (the best rows by the last embedding of the whole pool)."""
    count: int = 1000
    """How many, for random and best."""
    refresh: int = 5
    """For best: score the whole pool anew every so many rounds."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _one_of("candidates.which", self.which, ("all", "random", "best"))
        _whole("candidates.count", self.count, 1)
        _whole("candidates.refresh", self.refresh, 1)


@dataclass
class LabelSettings:
    """Where labels come from."""

    source: str = "column"
    """column (of the pool), callable (module:function of ids and a table of their rows), or people (files)."""
    function: str | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _one_of("labels.source", self.source, LABEL_SOURCES)
        if (self.source == "callable") != (self.function is not None):
            raise ConfigError("labels.function goes with labels.source=callable, and only with it: set both or neither")


@dataclass
class RoundSettings:
    """How many rounds of how many rows."""

    count: int = 10
    batch: int = 10
    """b, rows picked (and labelled) a round."""
    targets_per_round: int | None = None
    """m, targets drawn anew each round. null: all of them."""
    seed: int = 0
    """Fixes initial weights, batches, samples and the random rule."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _whole("rounds.count", self.count, 1)
        _whole("rounds.batch", self.batch, 1)
        _whole("rounds.seed", self.seed, 0)
        if self.targets_per_round is not None:
            _whole("rounds.targets_per_round", self.targets_per_round, 1)


@dataclass
class RuleSettings(AcquisitionSettings):
    """The rule that picks: those of a selection, and badge."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if self.name != "badge":
            super().__post_init__()
        else:
            AcquisitionSettings("itl", self.noise_variance, self.target_noise_variance)


@dataclass
class TrainerSettings:
    """Who trains."""

    kind: str = "local"
    """local (this process), ray (a Ray Train run a round), ray_long_lived (one Ray Train run for all rounds)."""
    num_workers: int = 1
    use_gpu: bool = False
    cpus_per_worker: float = 1.0
    max_failures: int = 2
    """How often lost workers are replaced."""
    restart_deadline_s: float = 300.0
    """Seconds within which workers must find places, when they start and once lost (on Ray)."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        _one_of("trainer.kind", self.kind, TRAINERS)
        _whole("trainer.num_workers", self.num_workers, 1)
        _whole("trainer.max_failures", self.max_failures, 0)
        if not self.restart_deadline_s > 0:
            raise ConfigError(f"trainer.restart_deadline_s={self.restart_deadline_s} cannot be used: give seconds > 0")


@dataclass
class TuningRunSettings:
    """Where results go."""

    dir: str | None = None
    """Run directory; the same command resumes. null: runs/<time>."""
    report: bool = True
    log: str = "auto"
    """auto: a live line on a terminal, else lines; lines; quiet: errors and the last line; json: objects on stdout."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        check_log(self.log)


@dataclass
class FineTuneSettings:
    """Everything that one active fine-tuning takes."""

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    embedding: RoundEmbeddingSettings = field(default_factory=RoundEmbeddingSettings)
    acquisition: RuleSettings = field(default_factory=RuleSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    rounds: RoundSettings = field(default_factory=RoundSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    cluster: ClusterSettings = field(default_factory=lambda: ClusterSettings(num_shards=0))
    run: TuningRunSettings = field(default_factory=TuningRunSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)

    def __post_init__(self) -> None:
        """Raise ConfigError for options that contradict each other."""
        if self.acquisition.name == "badge" and self.embedding.kind == "features":
            raise ConfigError("acquisition.name=badge clusters gradient embeddings: set embedding.kind=gradient")


_FOLDER_NAME = re.compile(r"\w[\w.+-]{0,99}")


@dataclass
class TaskSettings:
    """A task on real data that is fetched and prepared on first use; fills the options data.*."""

    name: str | None = None
    """mnist, cifar10, wordnet or passages (see ray_itl.experiments). null: data.* says where rows are."""
    options: dict[str, Any] = field(default_factory=dict)
    cache: str | None = None
    """Where fetched and prepared data live. null: $RAY_ITL_CACHE, else ~/.cache/ray_itl."""


@dataclass
class SweepSettings:
    """Several variants and seeds of one fine-tuning."""

    variants: dict[str, Any] = field(default_factory=dict)
    """Name -> options that differ, as {"acquisition.name": "random"}. Empty: a single run."""
    seeds: int = 1
    """Seeds 0, 1, ... for every variant; the task is drawn anew with each."""
    only: list[str] = field(default_factory=list)
    """Variants to run. Empty: all."""
    num_processes: int = 1
    """Runs at a time, one thread each."""
    reference: str = "random"
    """The variant that others are compared with."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        for option in ("seeds", "num_processes"):
            value = getattr(self, option)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"sweep.{option}={value!r} cannot be used: give a whole number of at least 1")
        unusable = [name for name in self.variants if not _FOLDER_NAME.fullmatch(str(name))]
        if unusable:
            raise ConfigError(
                f"sweep.variants cannot be named {unusable[0]!r}: names become folders of run.dir, so use letters, "
                "digits, and _ - + . inside"
            )
        unknown = set(self.only) - set(self.variants)
        if unknown:
            raise ConfigError(f"sweep.only names {', '.join(sorted(unknown))}: use some of {', '.join(self.variants)}")


@dataclass
class FineTuneJobSettings(FineTuneSettings):
    """Everything that `jobs/finetune.py` takes."""

    task: TaskSettings = field(default_factory=TaskSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
