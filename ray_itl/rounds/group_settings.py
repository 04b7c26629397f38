"""The groups of options of active fine-tuning that are its own, and of a prepared task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray_itl.curation.settings import BASELINE_RULES, ENOUGH_TARGETS, SEQUENTIAL_RULES, AcquisitionSettings, is_rule
from ray_itl.embedding.settings import SKETCH_DIM
from ray_itl.errors import ConfigError
from ray_itl.observability.settings import log_option
from ray_itl.options.checks import Check, column_name, one_of, positive, require, whole
from ray_itl.options.declare import Options, option
from ray_itl.sources.settings import DTYPES, ID_MEANING, bad_row_option

_NAMES = (*SEQUENTIAL_RULES, *BASELINE_RULES, "badge")
CLASSIFIER_NOISE = 0.01
"""Relative noise where none is set and rows are seen by a classifier in training, to which any two of them are alike:
docs/noise-and-normalisation.md has what that rests on."""
LANGUAGE_NOISE = 10.0
"""The same where a language model is trained: it learns from rows like the targets, and little from all others."""
TEXT_ENCODER = "sentence_encoder"
"""Its features set rows far apart before any training: they want the noise of a selection."""


@dataclass
class DataSettings(Options, group="data"):
    """The rows: a pool to pick from, a sample of the task, and held-out rows of the task to score on."""

    # Digests of the rows decide, wherever they are.
    pool: Any = option(None, "The candidates: files as of pool.path in ray-itl curate.", decides=False)
    target: Any = option(None, "The target sample, likewise; needs no labels.", decides=False)
    heldout: Any = option(
        None, "Held-out rows of the task, likewise; labelled where the objective needs it.", decides=False
    )
    id_column: str | None = option("id", ID_MEANING, column_name)
    raw_column: str = option(
        "embedding",
        "What the model reads, in all three: texts, conversations, images or arrays of numbers.",
        column_name,
    )
    on_bad_row: str = bad_row_option("rows of the pool cannot be read (null, blank, undecodable, of another length)")
    near_heldout: str = option(
        "flag",
        "Rows of the pool that are nearly equal to held-out ones (the same content or, of given embeddings, a cosine "
        "of at least 0.98): flag (a warning, and a list in near_heldout.parquet), exclude, or ignore.",
        one_of("flag", "exclude", "ignore"),
    )
    label_column: str = option(
        "label", "Column of labels, in heldout, and in the pool where labels.source=column.", column_name
    )
    classes: list[Any] = option(
        [], "Labels of the task, in the order of the model's outputs; for causal_lm they only count picks on task."
    )
    others: str = option(
        "drop",
        "Picked rows of other labels cost budget and are: drop (not trained on), or class (one more output, the last).",
        one_of("drop", "class"),
    )

    def identity_of(self, name: str) -> str | None:
        """See `Options.identity_of`: earlier versions excluded nothing."""
        excludes = name != "near_heldout" or self.near_heldout == "exclude"
        return super().identity_of(name) if excludes else None


@dataclass
class ModelSettings(Options, group="model"):
    """The model that is fine-tuned."""

    name: str = option("mlp", "mlp | mnist_cnn | causal_lm | sentence_encoder, or module:factory.")
    options: dict[str, Any] = option({}, "Its keyword arguments, as {hidden: [64]}.")
    checkpoint: str | None = option(None, "Safetensors to begin from. null: fresh weights by seed.")
    objective: str = option("classification", "", one_of("classification", "causal_lm"))
    start: str = option(
        "warm",
        "Where a round's training starts: warm (the last weights), head (those, with a fresh output layer), or fresh.",
        one_of("warm", "head", "fresh"),
    )
    trainable_only: bool = option(False, "Checkpoints hold only trained parameters (LoRA).")


@dataclass
class RoundEmbeddingSettings(Options, group="embedding"):
    """How rows become the features that selection works on."""

    kind: str = option(
        "features",
        "features (last layer), gradient (of the output layer, hallucinated labels), lora_gradient (of the adapters of "
        "causal_lm, by the row's own loss), or column (given embeddings).",
        one_of("features", "gradient", "lora_gradient", "column"),
    )
    column: str | None = option(None, "For kind=column: the embedding column of pool and target.")
    projection_dim: int | None = option(
        None,
        f"Random projection of gradients to so many dimensions. null: none; for lora_gradient {SKETCH_DIM}.",
        whole(1),
    )
    unit_norm: bool = option(False, "Scale every embedding to Euclidean norm 1.")
    batch_size: int = option(256, "Rows the model is given at a time.", whole(1))
    every: int = option(1, "Embed anew every so many rounds.", whole(1))
    dtype: str = option("float32", "Storage in the shards.", one_of(*DTYPES))

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        if (self.kind == "column") != (self.column is not None):
            raise ConfigError("embedding.column goes with embedding.kind=column, and only with it: set both or neither")
        for name in ("projection_dim", "unit_norm") if self.kind == "column" else ():
            value = getattr(self, name)
            require(not value, f"embedding.{name}", value, "embeddings of a column are taken as they are: leave it out")


@dataclass
class CandidateSettings(Options, group="candidates"):
    """Which rows compete in a round."""

    which: str = option(
        "all",
        "all; random (a sample each round); best (the best rows by the last embedding of the whole pool).",
        one_of("all", "random", "best"),
    )
    count: int = option(1000, "How many, for random and best.", whole(1))
    refresh: int = option(5, "For best: score the whole pool anew every so many rounds.", whole(1))


@dataclass
class LabelSettings(Options, group="labels"):
    """Where labels come from."""

    source: str = option(
        "column",
        "column (of the pool); callable (labels.function); people: the run stops with to_label.html, .csv and .parquet "
        "and goes on once labels.csv or labels.parquet is beside them.",
        one_of("column", "callable", "people"),
    )
    function: str | None = option(None, "For source=callable: module:function of ids and a table of their rows.")
    wait_for: str = option(
        "all",
        "For source=people: a round goes on once all of its rows are labelled or skipped, or once any is labelled.",
        one_of("all", "any"),
        decides=False,  # the labels do
    )
    columns: list[str] = option(
        [],
        "For source=people: columns of the pool that they see beside data.raw_column, such as [title,url].",
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        if (self.source == "callable") != (self.function is not None):
            raise ConfigError("labels.function goes with labels.source=callable, and only with it: set both or neither")
        if self.source != "people" and (self.columns or self.wait_for != "all"):
            raise ConfigError("labels.columns and labels.wait_for go with labels.source=people: leave them out")


@dataclass
class RoundSettings(Options, group="rounds"):
    """How many rounds of how many rows."""

    count: int = option(
        10,
        "Rounds; with more of them the same command continues a run.",
        whole(1),
        decides=False,  # the rounds done stay what they are
    )
    batch: int = option(10, "b, rows picked (and labelled) a round.", whole(1))
    targets_per_round: int | None = option(None, "m, targets drawn anew each round. null: all of them.", whole(1))
    seed: int = option(0, "Fixes initial weights, batches, samples and the random rule.", whole(0))
    repeats: int = option(
        1,
        "Trainings a round, each with a seed of its own (other first weights where model.start is fresh or head): "
        "scores are their means, and the weights of the first are kept.",
        whole(1),
    )
    keep_checkpoints: str = option(
        "all",
        "Whose weights stay on disk: all (of every round), or last (those that the next rounds need).",
        one_of("all", "last"),
        decides=False,
    )

    def identity_of(self, name: str) -> str | None:
        """See `Options.identity_of`; earlier versions trained once."""
        return None if name == "repeats" and self.repeats == 1 else super().identity_of(name)


@dataclass
class RuleSettings(AcquisitionSettings):
    """The rule that picks: those of a selection, and badge."""

    name: str = option(
        "itl",
        f"{' | '.join(SEQUENTIAL_RULES)}, or a baseline: {' | '.join((*BASELINE_RULES, 'badge'))}. In sweep.variants, "
        "and for a rule of your own (module:Class): acquisition.name.",
        Check(f"use one of {', '.join(_NAMES)}, or module:Class", lambda name: name == "badge" or is_rule(name)),
        spelled="acquisition",
    )
    relative_noise: float | None = option(
        None,
        "The same as a multiple of the mean squared norm of each round's features: the picks do not depend on their "
        f"units. null: {CLASSIFIER_NOISE:g} for features and gradients of a classifier (but {TEXT_ENCODER}), "
        f"{LANGUAGE_NOISE:g} for causal_lm; else {ENOUGH_TARGETS} over the number of targets of a round, at least 1.",
        positive.said("give a number > 0, or null"),
        decides=False,  # noise_variance tells of it
    )


@dataclass
class TuningRunSettings(Options, group="run"):
    """Where results go."""

    dir: str | None = option(
        None, "Run directory; the same command resumes an unfinished run. null: runs/<time>.", decides=False
    )
    report: bool = option(True, "Write report.html (needs the extra report).", decides=False)
    log: str = log_option()


@dataclass
class TaskSettings(Options, group="task"):
    """A task on real data, fetched by package name and prepared on first use; fills the options data.*."""

    name: str | None = option(
        None,
        "digits, mnist, cifar10, wordnet, wordnet_many, passages or topics (see ray_itl.experiments). null: data.* "
        "says where rows are.",
        decides=False,  # the rows do, as in data.*
    )
    options: dict[str, Any] = option({}, "Its keyword arguments, as {rare: true}.", decides=False)
    cache: str | None = option(
        None, "Where fetched and prepared data live. null: $RAY_ITL_CACHE, else ~/.cache/ray_itl.", decides=False
    )
