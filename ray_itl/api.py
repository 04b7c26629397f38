"""The Python API: one function that selects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.loaded_rows import LoadedRows
from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.rules import settings_of
from ray_itl.curation.run import curate
from ray_itl.curation.settings import AcquisitionSettings, CurationSettings, SelectionSettings
from ray_itl.curation.source_rows import RowsInMemory
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.embedding.held_function import HeldFunction
from ray_itl.errors import ConfigError, InputError
from ray_itl.io.temporary import temporary_folder
from ray_itl.observability.reporter import Reporter
from ray_itl.runs.paths import absolute_path
from ray_itl.selection import Selection
from ray_itl.sources.open import is_texts
from ray_itl.sources.settings import AvoidSettings, HeldoutSettings, KnownSettings, PoolSettings, TargetSettings


def select(
    pool: Any,
    target: Any,
    n: int | str,
    *,
    acquisition: str | Acquisition = "itl",
    noise_variance: float | None = None,
    relative_noise: float | None = None,
    target_noise_variance: float | None = None,
    known: Any = None,
    avoid: Any = None,
    avoid_weight: float = 1.0,
    features: Literal["as_is", "unit_norm", "random_fourier"] = "as_is",
    lengthscale: float | Literal["auto"] = "auto",
    id_column: str | None = "id",
    embedding_column: str = "embedding",
    encoder: str | Callable[[list[Any]], Any] | None = None,
    text_column: str | None = None,
    columns: Sequence[str] = (),
    filter: str | None = None,  # noqa: A002 - named like the option
    weight_column: str | None = None,
    task_column: str | None = None,
    task_weights: Mapping[str, float] | None = None,
    replacement: bool = False,
    seed: int = 0,
    min_gain: float = 0.0,
    cost_column: str | None = None,
    budget: float | None = None,
    per_cost: bool = False,
    quotas: Mapping[str, Mapping[Any, Mapping[str, float]]] | None = None,
    min_distance: float | None = None,
    min_similarity: float | str | None = None,
    near_target: Literal["flag", "exclude", "ignore"] = "flag",
    share: float | None = None,
    exclude: Any = None,
    include: Any = None,
    heldout: Any = None,
    heldout_options: Mapping[str, Any] | None = None,
    explain: bool = False,
    on_bad_row: Literal["refuse", "skip"] = "refuse",
    dtype: Literal["float32", "float16", "bfloat16", "float64"] = "float32",
    screening: Literal["auto", "int8", "bfloat16", "float32", "float64"] = "auto",
    storage: Literal["auto", "memory", "disk"] = "auto",
    num_shards: int | Literal["auto"] = 0,
    address: str | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    quiet: bool = True,
) -> Selection:
    """Pick the n rows of a pool that are most informative about a target sample, one after another.

    With "itl" each pick maximises I(f_A; y_x | picks) = 1/2 log((x'Sx + s2) / (x'S_A x + s2)) nats over the whole pool,
    where S is the covariance of linear-model weights given the picks and S_A the same given the targets too. The picks
    are those of exact greedy selection in float64, ties going to the smaller id, for any number of shards.

    Args:
        pool: Candidates: a file, folder, glob or URI (or a list) as of the option pool.path, pyarrow Table or Dataset,
            frame of pandas or polars, Hugging Face dataset, Ray Dataset, list of texts, or an N x D float array or
            tensor (whose ids are 0..N-1). An array in memory whose type is `dtype` is not copied
            where features are as they are and no Ray is used: it must not change until the call returns.
        target: The target sample, M >= 1 rows of any of these kinds.
        n: Number of rows to pick, 1 <= n <= N (any n >= 1 with replacement), or a percentage like "5%" of the rows that
            may be picked: those that meet the filter, less excluded and included ones; rounded down, at least 1.
        acquisition: "itl", "vtl" (SIFT on unit-norm features), "uncertainty"; a baseline: "nearest", "cosine" or
            "random"; or a rule of your own, as "module:Class" or an instance, which brings its noise variances along.
        noise_variance: s2 > 0, in units of the squared feature norm; None means relative_noise times the mean squared
            norm of the pool's features.
        relative_noise: The same as a multiple of that mean: the picks do not depend on the units of the embedding. None
            means 20 over the number of targets (of the smallest task), at least 1.
        target_noise_variance: s2A >= 0 for "itl"; None means s2, 0 noiseless targets.
        known: Rows that the model has learnt from already; the posterior is conditioned on them first.
        avoid: A sample of what the picks should say nothing about: avoid_weight times the gain about it is subtracted
            ("itl" and "vtl"). Each pick is the exact argmax of the difference, which over a set has no bound.
        avoid_weight: A number > 0.
        features: How embeddings become features: as they are, at unit norm, or random Fourier features.
        lengthscale: Of the RBF kernel that random Fourier features stand for; "auto": from the distances between rows
            of the pool, a number that `metrics` of the result says.
        id_column: Column of unique row ids, for pools with columns. None, or "id" where there is none: rows of files
            are named "file:row", and of tables by their positions.
        embedding_column: Column of embeddings in pool, target and known, where they have columns.
        encoder: What embeds rows that have no embeddings, of pool, target, known, avoid and heldout alike: a model of
            sentence-transformers or timm, by name or folder, "module:factory" of a function from a list of values to an
            array, or such a function. Embeddings are kept by what was embedded, so that later calls embed only what is
            new; those of a function that is not of a module (a lambda, a method, one of a notebook) only for this call,
            unless it has an attribute `version`. A run that a function took part in cannot be verified or replayed.
        text_column: The column that it embeds, of texts or images. None: the one that there is, or is usually called
            so ("text"). Rows with a column of embeddings need it to be embedded anew.
        columns: Columns of the pool to carry into the result.
        filter: A condition on the pool's columns, like "lang = 'en' and tokens < 2048": only rows that meet it are
            candidates. What may stand in it is what may stand after WHERE in SQL; see `ray_itl.sources.sql`.
        weight_column: Column of target weights.
        task_column: Column that says which of several tasks a target belongs to. A pick's gain is then the sum of its
            gains about each task alone, with weights ("itl" and "vtl"); each pick is the exact argmax of that sum. With
            "cosine" it is the mean similarity to the most similar task that counts.
        task_weights: Task -> weight > 0; 1 for those not named.
        replacement: Whether a row may be picked more than once.
        seed: Fixes random features and the random baseline.
        min_gain: Stop before the first pick that is worth less for each unit of its cost.
        cost_column: Column of what a row costs, > 0; None: every row costs 1.
        budget: What all picks together may cost; rows that no longer fit are passed over.
        per_cost: Whether rows compete by gain per cost.
        quotas: {column: {value: {"min": .., "max": ..}}}, as numbers of picks or shares of n below 1; the value "*"
            stands for every value not named.
        min_distance: Rows nearer than this (1 - cosine of the features) to an earlier pick or known row are not picked.
        min_similarity: Rows whose cosine (of the features) to every target is less are not picked: a number, or a
            percentage like "95%", the number below which 95% of the rows that may be picked lie.
        near_target: Whether rows nearly equal to a target are flagged in the result, excluded, or nothing.
        exclude: Ids of rows that may not be picked: a sequence or array, or the path of a file with such a column.
        include: Likewise, of rows of the pool that are picked already: the posterior is conditioned on them first.
        heldout: Rows that the model is to be tested on, of any of the kinds of `pool`. Rows of the pool whose features
            have a cosine of at least 0.98 with one are never picked, and are listed by `Selection.heldout`.
        heldout_options: What else counts as nearly equal, as {"max_similarity": 0.95, "text_column": "text",
            "ngram": 13}: any of the options heldout.* of the command.
        share: Stop once this share of what the whole pool could teach about the targets is learnt.
        explain: Whether to add columns that say why each row was picked: its nearest targets, the targets that it says
            most about, the nearest earlier pick, the runner-up and by how much the gain exceeds the runner-up's. Takes
            one more pass over the pool, O(N D n); see `ray_itl.curation.explanation.explanation_schema`.
        on_bad_row: What becomes of a selection from rows some of which cannot be used (NaN, null, of another length, of
            no positive cost): refused, naming the first ten; or skip: made as if they were not there, and listed by
            `Selection.skipped`.
        dtype: Storage of features. Exactness is stated for the rows as stored.
        screening: What rows are screened in, before the few in doubt are scored exactly; changes the time and memory
            taken, never a pick.
        storage: Whether features are kept in memory, in a cache on disk ($RAY_ITL_CACHE, else ~/.cache/ray_itl), or on
            disk only if they do not fit memory.
        num_shards: 0 selects in this process, without Ray; a number or "auto" uses that many Ray actors.
        address: Ray cluster; None uses the caller's `ray.init`, else the current job's cluster, else a local one.
        run_dir: Where to leave a run directory; the same call resumes an unfinished one.
        quiet: No progress lines.

    Returns:
        The selection. Time O(passes N D B + n C D), a pass per 10 to 50 picks; memory N D of the storage dtype
        (unless on disk, or an array that is not copied) plus 33 N bytes, and N (D + 4) where rows are screened in int8.

    Raises:
        InputError: data that cannot be used: names file, row or column and the remedy.
        ConfigError: an argument out of range.
        RunDirectoryError: run_dir cannot be written, or belongs to a run with other inputs.
        NoRoomError: others hold the cluster's CPUs, GPUs or memory, or the Ray actor does in which this is called.
        ShardError: a shard failed and could not be rebuilt.
        CacheError: features are to be kept on disk, and the disk is full or fails.
    """
    loaded = None
    if isinstance(pool, Loaded):
        pool, loaded = pool.pool, pool.rows
    encoder_name, held = named_encoder(encoder)
    log = "quiet" if quiet else "auto"
    carried: Any = columns if isinstance(columns, str) else list(columns)  # a single name is refused by the settings
    rule = rule_settings(acquisition, noise_variance, target_noise_variance, relative_noise)
    settings = CurationSettings(
        pool=PoolSettings(
            path=path_text(pool), id_column=id_column, embedding_column=embedding_column,
            text_column=text_column, columns=carried,
            filter=filter, features=features, lengthscale=lengthscale, dtype=dtype, on_bad_row=on_bad_row,
            screening=screening, storage=storage,
        ),
        target=TargetSettings(
            path=path_text(target), embedding_column=embedding_column, text_column=text_column,
            weight_column=weight_column, task_column=task_column, task_weights=dict(task_weights or {}),
        ),
        known=KnownSettings(path_text(known), embedding_column, text_column),
        avoid=AvoidSettings(path_text(avoid), embedding_column, text_column, avoid_weight),
        heldout=heldout_settings(heldout, embedding_column, dict(heldout_options or {})),
        encoder=EncoderSettings(encoder_name),
        acquisition=rule,
        selection=SelectionSettings(
            n, replacement, seed, min_gain, cost_column=cost_column, budget=budget, per_cost=per_cost,
            quotas={column: dict(values) for column, values in (quotas or {}).items()}, min_distance=min_distance,
            min_similarity=min_similarity, near_target=near_target, share=share, exclude=list_text(exclude),
            include=list_text(include), explain=explain,
        ),
        cluster=ClusterSettings(num_shards, address),
        run=RunSettings(None if run_dir is None else str(Path(run_dir).absolute()), log=log),
    )  # fmt: skip
    with (
        held or nullcontext(),
        opened_rows(pool, settings) as rows,
        opened_rows(target, settings) as targets,
        opened_rows(known, settings) as learnt,
        opened_rows(avoid, settings) as away,
        opened_rows(heldout, settings) as tests,
    ):
        excluded, included = (None if is_path(ids) else ids for ids in (exclude, include))
        instance = None if isinstance(acquisition, str) else acquisition
        inputs = Inputs(rows, targets, learnt, away, excluded, included, instance, heldout=tests, encoder=held)
        selection = curate(settings, inputs, Reporter(log), loaded)
        if rows is pool or selection.source_rows is None:
            return selection
        return replace(selection, source_rows=RowsInMemory(selection.source_rows(None)))  # its files go now


def named_encoder(encoder: Any) -> tuple[str | None, HeldFunction | None]:
    """Return what config.yaml says of an encoder, and the function where it is one; ConfigError where it is neither."""
    if encoder is None or isinstance(encoder, str):
        return encoder, None
    kind = type(encoder).__name__
    if hasattr(encoder, "encode"):
        raise ConfigError(f"encoder is a {kind}, which is no function of a list: hand over its method encode")
    if not callable(encoder) and not isinstance(encoder, HeldFunction):
        raise ConfigError(f"encoder is a {kind}: name a model, or hand over a function of a list of values")
    held = encoder if isinstance(encoder, HeldFunction) else HeldFunction(encoder)
    return held.name, held


def rule_settings(
    rule: str | Acquisition, noise: float | None, target_noise: float | None, relative_noise: float | None
) -> AcquisitionSettings:
    """Return the options that describe a rule; an instance has noise variances of its own."""
    given = AcquisitionSettings("itl", noise, target_noise, relative_noise)
    if not isinstance(rule, Acquisition):
        return replace(given, name=rule)
    settings, unset = settings_of(rule), AcquisitionSettings()
    for name in ("noise_variance", "target_noise_variance", "relative_noise"):
        value = getattr(given, name)
        if value not in (getattr(unset, name), getattr(settings, name)):
            raise ConfigError(f"{name}={value} is not that of acquisition={rule}: set it there, and leave it out here")
    return settings


def heldout_settings(heldout: Any, embedding_column: str, options: dict[str, Any]) -> HeldoutSettings:
    """Return the options of held-out rows; their column of embeddings is the pool's unless they say otherwise."""
    known = [each.name for each in fields(HeldoutSettings) if each.name != "path"]
    unknown = sorted({*options} - {*known})
    if unknown or (options and heldout is None):
        reason = f"{unknown[0]} is none of {', '.join(known)}" if unknown else "heldout is not given"
        raise ConfigError(f"heldout_options={options} cannot be used: {reason}")
    own = {} if heldout is None else {"embedding_column": embedding_column, **options}
    return HeldoutSettings(path_text(heldout), **own)


def path_text(rows: Any) -> str | list[str] | None:
    """Return what config.yaml says of rows: their absolute path or paths, or their kind where they are in memory."""
    if rows is None:
        return None
    paths = rows if isinstance(rows, list | tuple) else [rows]
    if paths and all(is_path(path) for path in paths) and not is_texts(rows):
        return absolute_path(rows)
    return f"<{type(rows).__name__} in memory>"


def is_path(ids: Any) -> bool:
    """Whether something is a path, and nothing in memory."""
    return isinstance(ids, str | os.PathLike)


def list_text(ids: Any) -> str | None:
    """Return what config.yaml says of a list of ids: the absolute path of its file, or that it was in memory."""
    if ids is None:
        return None
    return absolute_path(ids) if is_path(ids) else f"<{type(ids).__name__} in memory>"


@dataclass(frozen=True)
class Loaded:
    """In place of a pool: what it was given as, and its rows, which are loaded already."""

    pool: Any
    rows: LoadedRows
    encoder: HeldFunction | None = None
    """The function that embedded them, if one did."""


@contextmanager
def opened_rows(rows: Any, settings: CurationSettings) -> Iterator[Any]:
    """Yield rows as the layers below take them; a Ray Dataset is written to Parquet first."""
    if not type(rows).__module__.startswith("ray.data"):
        yield rows
        return
    if settings.run.dir is not None:
        raise ConfigError(
            "a Ray Dataset has no lasting identity by which run_dir could be resumed: write it with write_parquet and "
            "pass the folder, or leave out run_dir"
        )
    with temporary_folder("dataset") as folder:
        if rows.count() == 0:
            raise InputError("the Ray Dataset has no rows")
        rows.write_parquet(str(folder))
        yield str(folder)


__all__ = ["Loaded", "is_path", "list_text", "named_encoder", "opened_rows", "path_text", "rule_settings", "select"]
