"""A pool that stays loaded: `open_pool`, and the selections that are made from it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

import pyarrow as pa

from ray_itl.api import Loaded, named_encoder, opened_rows, path_text, select
from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.loaded_rows import LoadedRows, load_rows
from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.errors import ConfigError
from ray_itl.loaded.many import ManyOptions, select_for_each
from ray_itl.observability.reporter import Reporter
from ray_itl.selection import Selection
from ray_itl.sources.settings import PoolSettings, TargetSettings

FIXED = (
    *("features", "id_column", "embedding_column", "on_bad_row", "dtype", "screening", "storage", "num_shards"),
    *("address", "seed", "encoder", "text_column", "lengthscale"),
)
"""Options of `select` that are those of the opening: they say how rows are read, kept and spread."""


class SelectionOptions(TypedDict, total=False):
    """Options of `select` that may differ from selection to selection; each means what it means there."""

    acquisition: str | Acquisition
    noise_variance: float | None
    relative_noise: float | None
    target_noise_variance: float | None
    known: Any
    avoid: Any
    avoid_weight: float
    heldout: Any
    heldout_options: Mapping[str, Any] | None
    columns: Sequence[str]
    filter: str | None
    weight_column: str | None
    task_column: str | None
    task_weights: Mapping[str, float] | None
    replacement: bool
    min_gain: float
    cost_column: str | None
    budget: float | None
    per_cost: bool
    quotas: Mapping[str, Mapping[Any, Mapping[str, float]]] | None
    min_distance: float | None
    min_similarity: float | str | None
    near_target: Literal["flag", "exclude", "ignore"]
    share: float | None
    exclude: Any
    include: Any
    explain: bool
    run_dir: str | os.PathLike[str] | None
    quiet: bool


class LoadedPool:
    """A pool whose rows are loaded, here or on Ray, until it is closed; made by `open_pool`.

    Selections from it are made one at a time: threads wait for each other. What is fixed at opening and what may differ
    between selections `open_pool` and `SelectionOptions` say.
    """

    def __init__(self, loaded: Loaded, fixed: dict[str, Any], quiet: bool, resources: ExitStack) -> None:
        """Take what `open_pool` has opened; `resources` are let go of on closing."""
        self._loaded = loaded
        self._fixed = fixed
        self._quiet = quiet
        self._resources = resources
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def num_rows(self) -> int:
        """Number of rows that can be used."""
        return self._rows.num_rows

    @property
    def dim(self) -> int:
        """D, number of features."""
        return self._rows.dim

    def select(self, target: Any, n: int | str, **options: Unpack[SelectionOptions]) -> Selection:
        """Return exactly what `ray_itl.select(pool, target, n, ...)` would, without loading the pool again.

        Columns that `columns`, `filter`, `cost_column` or `quotas` name are read from the pool's files, once for the
        same filter; the rows themselves are those that were loaded. Rows that do not meet a filter take part in no
        pass: a pass costs the same with and without one.

        Args:
            target: The target sample, as of `select`.
            n: Number of rows to pick, or a percentage, as of `select`.
            options: Of `select`; the noise is relative to the rows that meet the filter, as there.

        Raises:
            ConfigError: an option that was fixed at opening, or is out of range; or the pool is closed.
            InputError: data that cannot be used; a file of the pool that is not what it was at opening.
            RunDirectoryError: run_dir cannot be written, or belongs to a run with other inputs.
            ShardError: a shard failed and could not be rebuilt. The pool is of no more use.
        """
        self._check(options, SelectionOptions.__annotations__)
        with self._lock:
            rows = self._rows
            quiet = options.get("quiet", self._quiet)
            rows.notify = Reporter("quiet" if quiet else "auto").warn
            return select(self._loaded, target, n, **{"quiet": quiet, **self._fixed, **options})

    def select_many(
        self, targets: Any, n: int | str, *, query_column: str | None = None, **options: Unpack[ManyOptions]
    ) -> pa.Table:
        """Pick n rows for each of many queries, each exactly as `select` with its targets alone would.

        Where features are on disk, the queries share passes: for each the driver fetches the rows that gain most before
        the first pick, some thousands, and picks among them; then, in one pass, every row of the pool compares itself
        with the picks of all queries. What is beaten is picked anew, until nothing is. ITL (with noise on its targets)
        and VTL share passes so. Other rules, and pools in memory, are selected from for one query after another.

        Args:
            targets: A mapping from names to targets; a list of targets, of which each is a query; a matrix of which
                each row is one; or any rows that `select` takes, where `query_column` says whose each is.
            n: Number of rows for each query, or a percentage.
            query_column: Column that names the query of a target.
            options: See `ManyOptions`.

        Returns:
            query (its name, or its number from 0), rank (from 1), id and gain of every pick, queries in the order in
            which they come; the columns asked for; and `bound` with `nearest`. Time of a pass O(N D n) a query, as one
            selection's, reading the pool once for some hundred queries; with `nearest=K` O(N D M) a query.

        Raises:
            ConfigError: an option that is fixed, unknown or out of range; or the pool is closed.
            InputError: data that cannot be used.
            RunDirectoryError: run_dir cannot be written, or belongs to a run with other inputs.
            ShardError: a shard failed and could not be rebuilt. The pool is of no more use.
        """
        self._check(options, ManyOptions.__annotations__)
        with self._lock:
            rows, quiet = self._rows, options.get("quiet", self._quiet)
            rows.notify = Reporter("quiet" if quiet else "auto").warn
            return select_for_each(self._loaded, targets, n, query_column, {"quiet": quiet, **options}).table

    def close(self) -> None:
        """Let go of the rows, and of the processes that hold them. May be called again."""
        with self._lock:
            self._is_closed = True
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{self.num_rows:,} rows x {self.dim}"
        return f"LoadedPool({state})"

    @property
    def _rows(self) -> LoadedRows:
        if self._is_closed:
            raise ConfigError("the pool is closed: open it again by ray_itl.open_pool")
        return self._loaded.rows

    def _check(self, options: Mapping[str, Any], known: Collection[str]) -> None:
        """Raise ConfigError for what is none of the known options."""
        for name in options:
            if name in FIXED:
                raise ConfigError(
                    f"{name} is fixed when a pool is opened: hand it to ray_itl.open_pool, or leave it out"
                )
            if name not in known:
                raise ConfigError(f"{name} is no option here: use some of {', '.join(known)}")


def open_pool(
    pool: Any,
    *,
    features: Literal["as_is", "unit_norm", "random_fourier"] = "as_is",
    lengthscale: float | Literal["auto"] = "auto",
    id_column: str | None = "id",
    embedding_column: str = "embedding",
    filter: str | None = None,  # noqa: A002 - named like the option
    on_bad_row: Literal["refuse", "skip"] = "refuse",
    dtype: Literal["float32", "float16", "bfloat16", "float64"] = "float32",
    screening: Literal["auto", "int8", "bfloat16", "float32", "float64"] = "auto",
    storage: Literal["auto", "memory", "disk"] = "auto",
    seed: int = 0,
    num_shards: int | Literal["auto"] = 0,
    address: str | None = None,
    encoder: str | Callable[[list[Any]], Any] | None = None,
    text_column: str | None = None,
    quiet: bool = True,
) -> LoadedPool:
    """Load a pool once, for as many selections as you like.

        with ray_itl.open_pool("pool/") as pool:
            for task, examples in tasks.items():
                print(task, pool.select(examples, n=100).ids)

    Fixed here is what says how rows are read, kept and spread. All else may differ from selection to selection: the
    target and n, the rule and its noise, limits (budget, quotas, distances), rows excluded, included, known or to be
    avoided, filters, columns, a run directory (see `LoadedPool.select`).

    Args:
        pool: As of `select`. An array in memory of type `dtype` is not copied where features are as they are and no Ray
            is used: it must not change until the pool is closed.
        features: How embeddings become features: as they are, at unit norm, or random Fourier features.
        lengthscale: As of `select`; auto: from all rows that are loaded, whatever filters leave of them.
        id_column: As of `select`.
        embedding_column: Of the pool, and of all that is compared with it.
        filter: Only rows that meet this condition are loaded; a selection may narrow them further.
        on_bad_row: Of rows that cannot be used: refuse the pool here, naming the first ten, or skip them.
        dtype: Storage of features.
        screening: What rows are screened in.
        storage: Whether features are kept in memory, or in a cache on disk.
        seed: Fixes random features and the random baseline.
        num_shards: 0 loads into this process, without Ray; a number or "auto" uses that many Ray actors, which stay.
        address: Ray cluster.
        encoder: Embeds rows that have no embeddings, as of `select`: of the pool, and of all that is compared with it.
        text_column: What is embedded; None: as `select` finds it.
        quiet: No progress lines, of this and of selections that do not say otherwise.

    Returns:
        The pool; to be closed, best by `with`. Memory as of `select`, for as long as it is open.

    Raises:
        InputError: data that cannot be used: names file, row or column and the remedy.
        ConfigError: an argument out of range, or more memory than there is.
        NoRoomError, ShardError, CacheError: as of `select`.
    """
    encoder_name, held = named_encoder(encoder)
    log = "quiet" if quiet else "auto"
    settings = CurationSettings(
        pool=PoolSettings(
            path=path_text(pool), id_column=id_column, embedding_column=embedding_column, text_column=text_column,
            filter=filter,
            features=features, lengthscale=lengthscale, dtype=dtype, on_bad_row=on_bad_row, screening=screening,
            storage=storage,
        ),
        target=TargetSettings("<of each selection>", embedding_column),
        encoder=EncoderSettings(encoder_name),
        selection=SelectionSettings(1, seed=seed),
        cluster=ClusterSettings(num_shards, address),
        run=RunSettings(log=log),
    )  # fmt: skip
    values = (
        *(features, id_column, embedding_column, on_bad_row, dtype, screening, storage, num_shards, address, seed),
        *(held or encoder, text_column, lengthscale),
    )
    fixed = dict(zip(FIXED, values, strict=True))
    with ExitStack() as resources:
        given = resources.enter_context(opened_rows(pool, settings))
        resources.enter_context(held or nullcontext())
        rows = resources.enter_context(load_rows(settings, Inputs(given, encoder=held), Reporter(log)))
        fixed["lengthscale"] = rows.settings.pool.lengthscale
        return LoadedPool(Loaded(given, rows, held), fixed, quiet, resources.pop_all())
