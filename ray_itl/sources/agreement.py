"""What the files of a pool have in common: the manifest that their footers give.

Each file may store its columns in types of its own, as long as one type holds the values of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.io.listing import PoolPaths
from ray_itl.sources.columns import Asked, PoolSchema, dataset_words, pool_types, table_words
from ray_itl.sources.files.image_columns import check_entries
from ray_itl.sources.files.kinds import kind_of
from ray_itl.sources.files.opened import stream_rows
from ray_itl.sources.footer import MAX_DIM, MAX_EXCESS, check_dim, check_lengths, wrong_lengths
from ray_itl.sources.ids import IdKind, check_id_type, common_kind, fits_int64, id_family
from ray_itl.sources.inspection import Footer, read_footer, stored_schema
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.partitions import dataset_columns, hive_columns, with_tables
from ray_itl.sources.schema import EmbeddingType, check_embedding_type, find_column, usual_dim
from ray_itl.sources.tables.listing import PoolListing, list_pool

_MAX_THREADS = 16
_BATCH_ROWS = 1 << 16
_DIM_ROWS = 256
_SAMPLE_ROW_BYTES = 4 << 20


def build_manifest(
    sources: Sequence[str] | PoolPaths,
    asked: Asked,
    filesystem: pafs.FileSystem | None = None,
    dataset: pads.FileSystemDataset | None = None,
) -> Manifest:
    """Read the footers of all files that `sources` mean (see `list_pool`) and describe the pool.

    Files are opened by a few threads; of each, the footer and at most 1 MiB of content are read (of ids that are long
    decimals, all). Files without rows may be of any type. Columns may be given by folders (see `partitions`).

    Args:
        sources: Paths.
        asked: The columns that will be read. No id column: a row's position is its id; no embedding column: there are
            no embeddings yet. A column to embed that is not certain yet is looked for in the first file.
        filesystem: What paths are on, if they do not say it.
        dataset: The Dataset that the files are of: its schema and partitioning say which columns there are.

    Raises:
        InputError: a file is unreadable, lacks a column, or has a type or dimension that does not go with that of the
            others (names the file, and the option); or there are no files or no rows.
        StorageError: storage failed for the moment.
    """
    listing = list_pool(sources, filesystem)
    if asked.raw is not None:
        asked = asked.settled(*_first_schema(listing, dataset))
    return _manifest_of(listing, asked, _schema_of(listing, asked, dataset))


def _first_schema(listing: PoolListing, dataset: pads.FileSystemDataset | None) -> tuple[pa.Schema, str]:
    """Return the columns that are looked at for one to embed, and the file that has them."""
    if dataset is not None:
        return dataset.schema, ""
    return stored_schema(listing, listing.paths[0]), listing.paths[0]


def _schema_of(listing: PoolListing, asked: Asked, dataset: pads.FileSystemDataset | None) -> PoolSchema:
    """Return what folders, tables, or a Dataset, say of the columns."""
    if dataset is None:
        plain = hive_columns([path for path in listing.paths if path not in listing.given])
        folders = with_tables(plain, listing.given).without(asked.embedding)
        return PoolSchema(folders=folders, options=asked.options())
    names = {listing.full_path(path): path for path in listing.paths}
    folders = dataset_columns(dataset, names).without(asked.embedding)
    return PoolSchema(folders=folders, options=asked.options(), dataset=dataset.schema)


def _manifest_of(listing: PoolListing, asked: Asked, schema: PoolSchema) -> Manifest:
    with ThreadPoolExecutor(_MAX_THREADS) as threads:
        footers = list(threads.map(lambda path: read_footer(listing, path, asked, schema), listing.paths))
    full = [footer for footer in footers if footer.entry.num_rows]
    if not full:
        raise InputError(f"the files under {listing.root!r} have no rows; name files that hold some")
    if asked.may_lack_id and not schema.lacks(asked.id) and not _have_ids(full, asked):
        asked = replace(asked, id="", names_rows=True)
        schema = replace(schema, options=asked.options())
    if schema.dataset is None and any(asked.id in footer.stored for footer in full):
        schema = replace(schema, folders=schema.folders.without(asked.id))  # files know better than folders
        for footer in full:
            find_column(pa.schema(footer.stored), asked.id, asked.id_option, footer.entry.path)
    schema = _without_empty_types(schema, footers)
    found = [(footer.entry.path, footer.stored) for footer in full]
    schema = replace(schema, types=pool_types(asked, found, schema))
    dtype, dim = _common_embedding(listing, full, asked, schema)
    return Manifest(
        uri=listing.uri,
        root=listing.root,
        sources=listing.sources,
        files=tuple(footer.entry for footer in footers),
        id_column=asked.id,
        id_kind=_common_id_kind(listing, full, asked, schema),
        embedding_column=asked.embedding,
        raw_column=asked.raw_column,
        dtype=dtype,
        dim=dim,
        dataset=dataset_words(asked, found, schema) or table_words(asked, listing.given),
        schema=schema,
        tables=listing.tables,
        images=listing.images,
        image_columns=listing.image_columns,
        remarks=check_entries(listing.filesystem, listing.root, listing.image_columns, listing.images),
        unsettled=listing.unsettled,
    )


def _have_ids(footers: list[Footer], asked: Asked) -> bool:
    """Whether files have the id column, all or none; InputError where some have."""
    with_ids, without = ([f.entry.path for f in footers if (asked.id in f.stored) is has] for has in (True, False))
    if with_ids and without:
        raise InputError(
            f"file {without[0]!r} has no column {asked.id!r}, which {with_ids[0]!r} has: give all files ids, or set "
            f"{asked.id_option}=null, and rows are named by their files and numbers"
        )
    return bool(with_ids)


def _without_empty_types(schema: PoolSchema, footers: list[Footer]) -> PoolSchema:
    """Return the schema without types that a Dataset, which looks at one file alone, has of a file without rows."""
    if schema.dataset is None:
        return schema
    full, empty = ([f.stored for f in footers if bool(f.entry.num_rows) is has_rows] for has_rows in (True, False))
    own = schema.dataset
    for place, field in enumerate(own):
        kinds = [[types[field.name] for types in stored if field.name in types] for stored in (full, empty)]
        if field.type in kinds[1] and kinds[0] and field.type not in kinds[0]:
            own = own.set(place, field.with_type(pa.null()))
    return replace(schema, dataset=own)


def _common_id_kind(listing: PoolListing, footers: list[Footer], asked: Asked, schema: PoolSchema) -> IdKind:
    if not asked.id:
        return "string" if asked.names_rows else "int"
    forms = {}
    for footer in footers:
        path = footer.entry.path
        kind = schema.type_of(asked.id, footer.stored.get(asked.id))
        forms[path] = check_id_type(kind, asked.id, path, asked.id_option)
    first, *others = forms
    for path in others:
        _check_same("ids of type", (first, id_family(forms[first])), (path, id_family(forms[path])))
    long = [path for path, form in forms.items() if form == "decimal"]
    return common_kind(set(forms.values()), lambda: all(_has_small_ids(listing, path, asked.id) for path in long))


def _has_small_ids(listing: PoolListing, path: str, column: str) -> bool:
    """Whether int64 holds the ids of a file, all of which are read."""
    with kind_of(listing, path).open(listing, listing.filesystem, path) as file:
        batches = file.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False)
        return all(fits_int64(ids) for batch in batches for ids in batch.columns)


def _common_embedding(listing: PoolListing, footers: list[Footer], asked: Asked, schema: PoolSchema) -> tuple[str, int]:
    """Return the widest float type of the files, and the dimension that all have."""
    column = asked.embedding
    if not column:
        return "", 0
    types: dict[str, EmbeddingType] = {}
    for footer in footers:
        path = footer.entry.path
        if column not in footer.stored:
            raise InputError(
                f"file {path!r} lacks the column {column!r} of the Dataset: embed its rows, or leave it out"
            )
        kind = schema.type_of(column, footer.stored[column])
        types[path] = check_embedding_type(kind, column, path, asked.embedding_option)
    fixed = [(path, kind.dim) for path, kind in types.items() if kind.dim is not None]
    for other in fixed:
        _check_same("embeddings of dimension", fixed[0], other)
    dim = (
        fixed[0][1]
        if fixed
        else _dim_of_lists(listing, [footer for footer in footers if footer.entry.num_rows], column)
    )
    check_dim(dim, column, asked.embedding_option)
    for footer in footers:
        check_lengths(footer.claims, dim, column, footer.entry.path)
    return str(np.result_type(*(kind.dtype for kind in types.values()))), dim


def _dim_of_lists(listing: PoolListing, footers: list[Footer], column: str) -> int:
    """Return the dimension of lists of free length, that of most rows; all rows are checked when they are read."""
    dims: Counter[int] = Counter()
    for claim in (claim for footer in footers for claim in footer.claims if claim.num_rows):
        dim, rest = divmod(claim.num_values, claim.num_rows)
        dims[dim] += claim.num_rows if dim and not rest else 0
    dim, num_rows = dims.most_common(1)[0]
    if num_rows:
        return dim
    # Lists of other lengths, or nulls, are everywhere: some rows are read, if that cannot take much memory.
    path = footers[0].entry.path
    group, claim = next((index, claim) for index, claim in enumerate(footers[0].claims) if claim.num_rows)
    if claim.num_values > MAX_EXCESS:
        about = -(-claim.num_values // claim.num_rows)  # right where few are null, which counts as one number
        if about > MAX_DIM or claim.num_values > footers[0].entry.size_bytes:  # real ones take more than a byte each
            raise wrong_lengths(group, claim, column, path)
        return about
    with kind_of(listing, path).open(listing, listing.filesystem, path) as file:
        stop = min(claim.num_rows, _DIM_ROWS)
        batches = [batch for _, batch in stream_rows(file, [group], 0, stop, [column], _SAMPLE_ROW_BYTES)]
    return usual_dim(pa.Table.from_batches(batches).column(0).combine_chunks(), column, path)


def _check_same(words: str, first: tuple[str, object], other: tuple[str, object]) -> None:
    """Raise InputError where two files, each with what it has, differ in it."""
    if first[1] != other[1]:
        raise InputError(
            f"file {other[0]!r} has {words} {other[1]} where file {first[0]!r} has {first[1]}; a pool needs one kind "
            "throughout, so rewrite the files that differ"
        )
