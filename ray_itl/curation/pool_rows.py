"""The rows of a pool, opened by the options, with what embeds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import torch
from torch import Tensor

from ray_itl.curation.inputs import Inputs
from ray_itl.curation.outputs import check_columns
from ray_itl.curation.settings import CurationSettings
from ray_itl.embedding.encodings import CachedEncodings
from ray_itl.errors import ConfigError, InputError
from ray_itl.io.listing import PoolPaths
from ray_itl.sources.base import PoolSource
from ray_itl.sources.encoding import Encoding, MakesEncodings, RawColumn, encoding_of
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.open import open_source, path_texts
from ray_itl.sources.schema import MissingColumnError


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
    with naming_encoders(encoder, "pool"):
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
        inputs.tell(column_words("pool", encoding_of(source), settings.pool.embedding_column))
    return source


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


def as_it_was(settings: CurationSettings, pool: Manifest | None) -> CurationSettings:
    """Return options by which a pool is opened as it was when a manifest was made of it, as far as that can be said."""
    version = pool.tables[0].version if pool is not None and len(pool.tables) == 1 else settings.pool.version
    return replace(settings, pool=replace(settings.pool, version=version, settle_s=0.0))


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
def naming_encoders(encoder: MakesEncodings | None, group: str) -> Iterator[None]:
    """Say, where rows turn out to have no embeddings, that there are encoders."""
    try:
        yield
    except MissingColumnError as error:
        if encoder is not None or f"set {group}.embedding_column" not in str(error):
            raise
        raise InputError(
            f"{error}, or set encoder to a model that embeds its texts (encoder=sentence-transformers/all-MiniLM-L6-v2)"
        ) from error


def column_words(what: str, encoding: Encoding | None, embedding_column: str) -> str:
    """Say which column was taken where none was named."""
    if encoding is None:
        return f"the {what} has embeddings, in column {embedding_column!r}: they are taken as they are"
    return f"of the {what} column {encoding.column!r} is embedded"
