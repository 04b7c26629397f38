"""Options that say what rows there are: the pool, the target sample, and what is known, to be avoided, or held out.

Paths and columns of embeddings do not decide by name: digests of the rows themselves do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ray_itl.options.checks import (
    Check,
    column_name,
    distinct_names,
    is_number,
    is_positive,
    is_whole,
    number_at_least,
    one_of,
    positive,
    positive_up_to,
    require,
    text,
    whole,
)
from ray_itl.options.declare import Options, option
from ray_itl.options.text import plain

DTYPES = ("float32", "float16", "bfloat16", "float64")
ID_MEANING = (
    "Column of unique ids: numbers, texts, UUIDs or bytes. null, or id where there is no such column: a row's id is "
    "its file and its number there, like notes.jsonl:17, an image's its path."
)
_RAW = column_name.said("name a column, or null")
_RAW_MEANING = "With encoder: its column to embed. null: as of the pool."
_FOURIER_FEATURES = 1024
_EVEN = Check("give a positive even number", lambda value: is_whole(value, 1) and value % 2 == 0)


def bad_row_option(what: str, refuse: str = "refuse", skip: str = "they are no candidates") -> Any:
    """Declare what becomes of a run when rows of its pool cannot be used.

    Args:
        what: What is wrong with them.
        refuse: When it is refused.
        skip: What they are otherwise.
    """
    return option(
        "refuse",
        f"When {what}: {refuse}; skip: {skip}, and listed in skipped.parquet.",
        one_of("refuse", "skip"),
        decides=False,  # nothing that can be used depends on it
    )


@dataclass
class PoolSettings(Options, group="pool"):
    """Where the candidate rows are and how to read them."""

    path: Any = option(
        None,
        "The pool: a file, folder, glob or URI (s3://, gs://, hf://) of Parquet, JSON lines, CSV (also .gz, .zst) or "
        "images, or a list of them; or a saved Hugging Face dataset, a Delta, Iceberg or Lance table. null: the digits "
        "that come with scikit-learn.",
        decides=False,
    )
    version: int | None = option(
        None,
        "Of the table that pool.path means: its version, of Iceberg the snapshot's id. null: the newest.",
        whole(0).said("give a whole number >= 0, or null"),
        decides=False,
    )
    settle_s: float = option(
        0.0,
        "Files that changed less than so many seconds ago are passed over, as they may still be being written.",
        number_at_least(0).said("give seconds >= 0"),
        decides=False,
    )
    id_column: str | None = option("id", ID_MEANING, column_name)
    embedding_column: str = option(
        "embedding", "Column of embeddings: lists of floats, all of one length.", column_name, decides=False
    )
    text_column: str | None = option(
        None,
        "With encoder: the column that it embeds, of texts or images. null: the embeddings, where there are some, else "
        "the one column that it can be, or is usually called so (text, content, ...).",
        _RAW,
        decides=False,
    )
    columns: list[str] = option(
        [],
        "Further columns to carry into selection.parquet, as [a,b]. The same run with others keeps its picks.",
        distinct_names(),
        decides=False,  # no pick depends on it
        per_tick=True,
    )
    filter: str | None = option(
        None,
        "Only rows that meet this condition are candidates, as in SQL: \"lang = 'en' and tokens < 2048\". The columns "
        "that it names are read first, embeddings of other rows never.",
        text.said("give a condition like tokens < 2048, or null"),
        per_tick=True,
    )
    features: str = option(
        "as_is",
        "as_is; unit_norm; random_fourier: an RBF kernel, by pool.fourier_features and pool.lengthscale.",
        one_of("as_is", "unit_norm", "random_fourier"),
    )
    fourier_features: int = option(_FOURIER_FEATURES, "Number of random Fourier features, even.", _EVEN)
    lengthscale: Any = option(
        "auto",
        "Of the RBF kernel, in units of the embeddings. auto: from the distances between rows of the pool (in ticks of "
        "the first tick's), a number from then on, which is said and kept.",
        Check("give auto or a positive number", lambda value: value == "auto" or is_positive(value)),
    )
    prior_covariance: str | None = option(
        None,
        "A .npy file of a D x D weight covariance Sigma: the linear kernel becomes x'Sigma x (with features=as_is).",
    )
    dtype: str = option("float32", "Storage of features in the shards; decisions are always float64.", one_of(*DTYPES))
    on_bad_row: str = bad_row_option("rows cannot be used (NaN, null, of another length, of no positive cost)")
    screening: str = option(
        "auto",
        "What rows are screened in before the few in doubt are scored exactly: int8 (a quarter of the memory beside "
        "them), bfloat16, float32, float64; auto: what this machine multiplies fastest, if it fits.",
        one_of("auto", "int8", "bfloat16", "float32", "float64"),
        decides=False,
    )
    storage: str = option(
        "auto",
        "memory; disk: a cache on each shard's machine, read once a pass; auto: disk if memory does not hold them.",
        one_of("auto", "memory", "disk"),
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        if self.features == "random_fourier":
            self.lengthscale = self.lengthscale if self.lengthscale == "auto" else float(self.lengthscale)
            return
        # Versions before auto wrote a lengthscale of 1 for every pool.
        unset = {"lengthscale": ("auto", 1.0), "fourier_features": (_FOURIER_FEATURES,)}
        for name, values in unset.items():
            value = getattr(self, name)
            require(value in values, f"pool.{name}", value, "set pool.features=random_fourier, or leave it out")

    def identity_of(self, name: str) -> str | None:
        """See `Options.identity_of`; without an RBF kernel its lengthscale is that of versions before auto."""
        if name == "lengthscale" and self.features != "random_fourier":
            return "1.0"
        return super().identity_of(name)

    def as_begun(self, identity: Mapping[str, str]) -> Self:
        """Return the options with the lengthscale of a run or state directory of an identity, where it is auto."""
        begun = identity.get("pool.lengthscale")
        if begun is None or self.features != "random_fourier" or self.lengthscale != "auto":
            return self
        return replace(self, lengthscale=float(begun))


@dataclass
class TargetSettings(Options, group="target"):
    """The sample of the task that the picks should teach about."""

    path: Any = option(None, "The target sample: files as of pool.path.", decides=False)
    embedding_column: str = option("embedding", "Its column of embeddings.", decides=False)
    text_column: str | None = option(None, _RAW_MEANING, _RAW, decides=False)
    weight_column: str | None = option(
        None,
        "Column of target weights >= 0; weight 2 counts as listing the target twice. null: all 1.",
        decides=False,
    )
    id_column: str | None = option(
        None, "Column that names a target in the report. null: its row number.", decides=False
    )
    task_column: str | None = option(
        None,
        "Column that says which of several tasks a target belongs to: their gains are summed (itl, vtl), or the "
        "mean similarity to the one most similar counts (cosine). null: one task.",
        decides=False,
    )
    task_weights: dict[str, float] = option(
        {}, "How much a task's gain counts, as {code: 2, chat: 0.5}; tasks not named count 1.", decides=False
    )
    query_column: str | None = option(
        None,
        "Column that says which of many queries a target belongs to: each gets selection.n rows of its own, as if "
        "selected for alone. null: one selection for all.",
        decides=False,  # the queries do
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        self.task_weights = plain("target.task_weights", self.task_weights)
        usable = all(is_positive(weight) for weight in self.task_weights.values())
        require(usable, "target.task_weights", dict(self.task_weights), "give positive numbers")
        together = not self.task_weights or self.task_column is not None
        require(together, "target.task_weights", dict(self.task_weights), "set target.task_column, too")


@dataclass
class KnownSettings(Options, group="known"):
    """Rows that the model has learnt from already: the posterior is conditioned on them before the first pick."""

    path: Any = option(None, "These rows: files as of pool.path. null: none.", decides=False)
    embedding_column: str = option("embedding", "Its column of embeddings.", decides=False)
    text_column: str | None = option(None, _RAW_MEANING, _RAW, decides=False)


@dataclass
class AvoidSettings(Options, group="avoid"):
    """A sample of what the picks should say nothing about: the gain about it is subtracted (itl, vtl)."""

    path: Any = option(None, "These rows: files as of pool.path. null: none.", decides=False)
    embedding_column: str = option("embedding", "Its column of embeddings.", decides=False)
    text_column: str | None = option(None, _RAW_MEANING, _RAW, decides=False)
    weight: float = option(1.0, "How much of the gain about them is subtracted.", positive)


@dataclass
class HeldoutSettings(Options, group="heldout"):
    """Rows that the model is to be tested on: rows of the pool that are nearly equal to one are never picked.

    They are listed in heldout.parquet of the run directory.
    """

    path: Any = option(None, "The held-out rows: files as of pool.path. null: none.", decides=False)
    embedding_column: str | None = option(
        "embedding",
        "Their column of embeddings, of the model that embedded the pool. null: compare texts alone.",
        column_name.said("name a column, or null to compare texts alone"),
        decides=False,
    )
    id_column: str | None = option(
        None, "Column that names a held-out row in heldout.parquet. null: its file and row.", column_name, decides=False
    )
    max_similarity: float = option(
        0.98,
        "Rows whose features have at least this cosine with those of a held-out row are excluded.",
        positive_up_to(1),
        decides=False,
    )
    text_column: str | None = option(
        None,
        "Their column of texts: rows of the same text, but for case and white space, are excluded, too.",
        column_name,
        decides=False,
    )
    pool_text_column: str | None = option(
        None, "The pool's column of texts. null: called as heldout.text_column.", column_name, decides=False
    )
    ngram: int | None = option(
        None,
        "Rows are excluded, too, that share so many words in a row with a held-out text; 13 is usual. null: they are "
        "not looked for.",
        whole(1).said("give a whole number of words >= 1, or null"),
        decides=False,
    )
    max_overlap: float = option(
        0.5,
        "The share of such n-grams, of those of the shorter text, from which on a row is excluded; 0: one is enough.",
        Check("give a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1),
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        told = self.embedding_column is not None or self.text_column is not None
        require(told, "heldout.embedding_column", self.embedding_column, "set heldout.text_column, too")
        for name in ("ngram", "pool_text_column"):
            value = getattr(self, name)
            together = value is None or self.text_column is not None
            require(together, f"heldout.{name}", value, "set heldout.text_column, too")

    @property
    def column_in_pool(self) -> str | None:
        """The pool's column of texts, if texts are compared."""
        return self.pool_text_column or self.text_column
