"""Opening a problem: what options name and callers hold, read, checked and put into one feature space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import torch
from torch import Tensor

from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.baselines import BaselineRule
from ray_itl.core.features import FeatureMap, Identity, PriorCovariance, RandomFourier, UnitNorm
from ray_itl.core.posterior import Targets
from ray_itl.curation.evaluation import absent_classes
from ray_itl.curation.heldout import HeldOut, overlap_with, read_heldout
from ray_itl.curation.lengthscale import chosen_lengthscale
from ray_itl.curation.outputs import check_columns
from ray_itl.curation.percentage import percentage
from ray_itl.curation.problem import Problem, objectives_of, tasks_among
from ray_itl.curation.rules import build_acquisition
from ray_itl.curation.settings import BASELINE_RULES, AcquisitionSettings, CurationSettings
from ray_itl.embedding.cached import CachedEncodings
from ray_itl.embedding.held_function import HeldFunction
from ray_itl.errors import ConfigError, InputError
from ray_itl.io.listing import OnText, PoolPaths
from ray_itl.shards.conversion import map_rows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.encoding import Encoding, MakesEncodings, RawColumn, encoding_of
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.open import open_source, path_texts, readable
from ray_itl.sources.schema import MissingColumnError
from ray_itl.sources.targets import TargetTable, read_targets


@dataclass(frozen=True)
class Inputs:
    """What a caller holds in memory, each in place of what the option of that name says; None: that option."""

    pool: Any = None
    """Anything that `sources.open.readable` takes, as are target, known, avoid and heldout."""
    target: Any = None
    known: Any = None
    avoid: Any = None
    exclude: Any = None
    """Ids as a sequence or array, as is the next one."""
    include: Any = None
    rule: Acquisition | None = None
    """The sequential rule, where it is an instance that settings.acquisition cannot describe."""
    written_now: tuple[pafs.FileSystem, str] | None = None
    """A file that has just been written: on its filesystem, its time is the present for pool.settle_s."""
    on_text: OnText | None = None
    """See `PoolPaths`."""
    heldout: Any = None
    encoder: HeldFunction | None = None
    """The function that embeds, where it is none that settings.encoder could name."""
    tell: Callable[[str], object] = lambda _: None
    """Told, in a line, what was guessed or is about to take long."""
    on_rows: Callable[[str, int, int], object] = lambda *_: None
    """Told of rows that are embedded by this process what they are, how many are done, and of how many."""

    def rows(self, what: str, settings: CurationSettings) -> Any:
        """Return the rows of pool, target, known, avoid or heldout, or the path that settings give for them."""
        own = getattr(self, what)
        return getattr(settings, what).path if own is None else readable(own, what)


FROM_OPTIONS = Inputs()
"""Nothing in memory: options name everything."""


def open_problem(
    settings: CurationSettings, inputs: Inputs = FROM_OPTIONS, source: PoolSource | None = None
) -> Problem:
    """Open and check everything; reads the targets and known rows, and of the pool only footers.

    Args:
        settings: The options.
        inputs: What the caller holds in memory; its lists of ids are looked up later (see `constraints.with_lists`).
        source: The rows of the pool that meet the options, where they are open already.

    Raises:
        InputError: data that cannot be used (names file, row or column).
        ConfigError: options that do not fit the data.
    """
    encoder = None if settings.encoder.name is None else encoder_of(settings, inputs)
    source = source or open_pool_rows(settings, inputs, encoder=encoder)
    _check_number(settings, source)
    absent = absent_classes(source, settings.evaluation)
    if absent and settings.state.dir is None:
        raise ConfigError(absent[0])
    feature_map = build_feature_map(settings, source, inputs.tell)
    feature_map.dim(source.dim)  # raises where a prior covariance is for other embeddings
    reading = _Reading(settings, inputs, encoder, encoding_of(source))
    read = reading.targets()
    targets = Targets.uniform(_to_features(feature_map, read.embeddings, source.dim, "target"))
    if read.weights is not None:
        targets = Targets(targets.rows, torch.tensor(read.weights))
    others = {what: reading.rows(what) for what in ("known", "avoid")}
    known, avoid = (
        None if rows is None else _to_features(feature_map, rows.embeddings, source.dim, what)
        for what, rows in others.items()
    )
    heldout = _read_heldout(reading, feature_map, source.dim)
    tasks = () if read.tasks is None else tasks_among(read.tasks, read.task_weights(settings.target.task_weights))
    avoided = None if avoid is None else Targets.uniform(avoid)
    weights = tuple(weight for _, weight in objectives_of(targets, tasks, avoided, settings.avoid.weight))
    name = settings.acquisition.name
    if encoder is not None and not encoder.is_used:
        inputs.tell(f"beware: encoder={settings.encoder.name} embeds nothing, since all rows have embeddings")
    return Problem(
        source=source,
        feature_map=feature_map,
        targets=targets,
        target_ids=read.ids,
        target_source=read.source,
        known=known,
        # Where the noise is relative to rows that are not read yet, `with_noise` builds the rule anew.
        acquisition=build_acquisition(settings.acquisition.on_rows(1.0), weights, inputs.rule),
        selection=settings.selection,
        baseline=cast(BaselineRule, name) if name in BASELINE_RULES else None,
        tasks=tasks,
        avoid=avoided,
        avoid_weight=settings.avoid.weight,
        noise_is_relative=settings.acquisition.noise_variance is None,
        heldout=heldout,
        notes=(*absent, *_leaks(heldout, targets.rows, known), *(() if encoder is None else encoder.remarks)),
        contents={
            what: (len(rows.embeddings), rows.digest)
            for what, rows in {"target": read, **others}.items()
            if rows is not None and rows.digest is not None
        },
    )


def with_noise(problem: Problem, settings: AcquisitionSettings) -> Problem:
    """Return the problem with the rule of some options, in which the noise variance is a number."""
    weights = tuple(weight for _, weight in problem.objectives)
    return replace(problem, acquisition=build_acquisition(settings, weights), noise_is_relative=False)


def as_it_was(settings: CurationSettings, pool: Manifest | None) -> CurationSettings:
    """Return options by which a pool is opened as it was when a manifest was made of it, as far as that can be said."""
    version = pool.tables[0].version if pool is not None and len(pool.tables) == 1 else settings.pool.version
    return replace(settings, pool=replace(settings.pool, version=version, settle_s=0.0))


def encoder_of(settings: CurationSettings, inputs: Inputs) -> CachedEncodings:
    """Return the encoder, which is on the GPU where shards are, or where this process, as the only one, has one.

    ConfigError where a function that no other process could know again is to embed in several.
    """
    cluster, held = settings.cluster, inputs.encoder
    if held is None and str(settings.encoder.name).startswith("<"):
        raise ConfigError(
            f"encoder was in memory ({settings.encoder.name}) and is gone: name a model or module:factory"
        )
    if held is not None and not held.lasts and cluster.num_shards != 0:
        raise ConfigError(
            f"encoder={held.name} is no function of a module, which alone can embed on Ray: define it in one, name a "
            "module:factory, or set num_shards=0"
        )
    has_gpu = torch.cuda.is_available() if cluster.num_shards == 0 else cluster.gpus_per_shard > 0
    return CachedEncodings(settings.encoder, "auto" if has_gpu else "cpu", inputs.tell, held)


def open_pool_rows(
    settings: CurationSettings,
    inputs: Inputs,
    columns: Mapping[str, str] | None = None,
    encoder: MakesEncodings | None = None,
) -> PoolSource:
    """Open the pool, of which columns that pool.filter looks at are read; errors as of `open_problem`.

    Args:
        settings: The options.
        inputs: What the caller holds in memory.
        columns: Column -> option, of what will be read besides ids and embeddings; None: what the options name.
        encoder: What embeds rows without embeddings; None: that of the options, if they name one.
    """
    if encoder is None and settings.encoder.name is not None:
        encoder = encoder_of(settings, inputs)
    pool = inputs.rows("pool", settings)
    check_columns(settings.pool.columns, settings.selection.explain, settings.selection.cost_column)
    is_array = isinstance(pool, np.ndarray | Tensor)
    if not isinstance(pool, np.ndarray | Tensor | pa.Table | pads.Dataset):
        options = settings.pool
        pool = PoolPaths(tuple(path_texts(pool)), options.version, options.settle_s, inputs.written_now, inputs.on_text)
    with _naming_encoders(encoder, "pool"):
        source = open_source(
            pool,
            id_column=None if is_array else settings.pool.id_column,
            embedding_column=settings.pool.embedding_column,
            columns=columns_read(settings) if columns is None else columns,
            condition=settings.pool.filter,
            id_option="pool.id_column",
            embedding_option="pool.embedding_column",
            raw=None if encoder is None else RawColumn(encoder, settings.pool.text_column, "pool.text_column"),
        )
    if encoder is not None and settings.pool.text_column is None and not is_array:
        inputs.tell(_column_words("pool", encoding_of(source), settings.pool.embedding_column))
    return source


def _check_number(settings: CurationSettings, source: PoolSource) -> None:
    n = settings.selection.n
    if not percentage(n) and n > source.num_rows and not settings.selection.replacement:
        meeting = "" if settings.pool.filter is None else " that meet pool.filter"
        raise ConfigError(f"selection.n={n}, but the pool has {source.num_rows} rows{meeting}: ask for 1 to that many")


def columns_read(settings: CurationSettings) -> dict[str, str]:
    """Return column -> the option that names it, of all that are read of the pool besides ids and embeddings."""
    chosen = settings.selection
    named = {
        settings.evaluation.class_column: "evaluation.class_column",
        **dict.fromkeys(chosen.quotas, "selection.quotas"),
        chosen.cost_column: "selection.cost_column",
        **_text_column_read(settings),
        **dict.fromkeys(settings.pool.columns, "pool.columns"),
    }
    return {column: option for column, option in named.items() if column}


def _text_column_read(settings: CurationSettings) -> dict[str | None, str]:
    options = settings.heldout
    if options.path is None:
        return {}
    name = "text_column" if options.pool_text_column is None else "pool_text_column"
    return {options.column_in_pool: f"heldout.{name}"}


@contextmanager
def _naming_encoders(encoder: MakesEncodings | None, group: str) -> Iterator[None]:
    """Say, where rows turn out to have no embeddings, that there are encoders."""
    try:
        yield
    except MissingColumnError as error:
        if encoder is not None or f"set {group}.embedding_column" not in str(error):
            raise
        raise InputError(
            f"{error}, or set encoder to a model that embeds its texts (encoder=sentence-transformers/all-MiniLM-L6-v2)"
        ) from error


def _column_words(what: str, encoding: Encoding | None, embedding_column: str) -> str:
    """Say which column was taken where none was named."""
    if encoding is None:
        return f"the {what} has embeddings, in column {embedding_column!r}: they are taken as they are"
    return f"of the {what} column {encoding.column!r} is embedded"


@dataclass(frozen=True)
class _Reading:
    """How rows besides the pool's are read."""

    settings: CurationSettings
    inputs: Inputs
    encoder: MakesEncodings | None
    pool: Encoding | None
    """What embeds the pool, if anything does."""

    def targets(self) -> TargetTable:
        """Return the target sample."""
        rows, options = self.inputs.rows("target", self.settings), self.settings.target
        as_table = not isinstance(rows, np.ndarray | Tensor)
        return self._read(
            rows,
            "target",
            "targets",
            embedding_column=options.embedding_column if as_table else "embedding",
            weight_column=options.weight_column,
            id_column=options.id_column,
            task_column=options.task_column if as_table else None,
        )

    def rows(self, what: str) -> TargetTable | None:
        """Return the rows that are known, to be avoided, or held out; None without any."""
        rows = self.inputs.rows(what, self.settings)
        if rows is None:
            return None
        return self._read(rows, what, f"{what} rows", embedding_column=getattr(self.settings, what).embedding_column)

    def _read(self, rows: Any, group: str, what: str, embedding_column: str, **columns: Any) -> TargetTable:
        own, like = getattr(self.settings, group).text_column, "" if self.pool is None else self.pool.column
        # Of held-out rows it names what is compared as text: the likeliest to be embedded, where they lack embeddings.
        asked, like = (None, own or like) if group == "heldout" else (own, like)
        raw = None if self.encoder is None else RawColumn(self.encoder, asked, f"{group}.text_column", like)
        with _naming_encoders(self.encoder, group):
            found = read_targets(
                rows,
                embedding_column=embedding_column,
                what=what,
                group=group,
                raw=raw,
                on_rows=lambda done, of: self.inputs.on_rows(what, done, of),
                **columns,
            )
        if raw is not None and asked is None and not isinstance(rows, np.ndarray | Tensor):
            column = None if found.encoding is None else found.encoding.column
            if column is None or column != like:
                self.inputs.tell(_column_words(what, found.encoding, embedding_column))
        return found


def _read_heldout(reading: _Reading, feature_map: FeatureMap, dim: int) -> HeldOut | None:
    """Return the held-out rows; None without any."""
    options = reading.settings.heldout
    rows = reading.inputs.rows("heldout", reading.settings)
    if rows is None:
        return None
    read = None if options.embedding_column is None else reading.rows("heldout")
    features = None if read is None else _to_features(feature_map, read.embeddings, dim, "heldout")
    return read_heldout(rows, options, features, None if read is None else read.digest)


def _leaks(heldout: HeldOut | None, targets: Tensor, known: Tensor | None) -> list[str]:
    """Return a sentence where targets or known rows are nearly equal to held-out ones: no exclusion can mend that."""
    if heldout is None:
        return []
    told = []
    for name, rows in (("targets", targets), ("known rows", known)):
        count = 0 if rows is None else overlap_with(heldout, rows)
        if count and rows is not None:
            told.append(
                f"{count:,} of {len(rows):,} {name} are nearly equal to held-out rows: a test on those flatters the "
                "model; leave them out on one side"
            )
    return told


def build_feature_map(options: CurationSettings, source: PoolSource, tell: Callable[[str], object]) -> FeatureMap:
    """Return the feature map of the options; reads the prior covariance, if any.

    Args:
        options: All of them.
        source: The pool, from which `chosen_lengthscale` reads where the options leave that open.
        tell: Told what it chose.
    """
    settings = options.pool
    if settings.prior_covariance is not None:
        if settings.features != "as_is":
            raise ConfigError(
                f"pool.prior_covariance goes with pool.features=as_is, not {settings.features}: it is the prior of "
                "weights on the embeddings as they are"
            )
        try:
            covariance = np.load(settings.prior_covariance, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"pool.prior_covariance={settings.prior_covariance}: {error}; give a .npy file") from error
        return PriorCovariance.from_covariance(torch.from_numpy(np.asarray(covariance, dtype=np.float64)))
    if settings.features == "unit_norm":
        return UnitNorm()
    if settings.features == "random_fourier":
        chosen = chosen_lengthscale(source, tell) if settings.lengthscale == "auto" else settings.lengthscale
        return RandomFourier(settings.fourier_features, chosen, options.selection.seed)
    return Identity()


def _to_features(feature_map: FeatureMap, embeddings: np.ndarray, dim: int, what: str) -> Tensor:
    if embeddings.shape[1] != dim:
        raise InputError(
            f"{what} embeddings have {embeddings.shape[1]} dimensions, the pool's have {dim}: embed both with the "
            f"same model, or set {what}.embedding_column"
        )
    return map_rows(feature_map, embeddings)
