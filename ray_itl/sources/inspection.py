"""What a file of a pool says of itself: its rows, the columns asked for, its fingerprint."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from ray_itl.sources.columns import Asked, FileColumns, PoolSchema
from ray_itl.sources.files.kinds import kind_of
from ray_itl.sources.footer import GroupClaim, check_amount
from ray_itl.sources.manifest import FileEntry
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.turns import pair_type, stands_in_pair, types_of


class Footer(NamedTuple):
    """What the footer of one file says."""

    entry: FileEntry
    claims: list[GroupClaim]
    stored: dict[str, pa.DataType]
    """Types of the columns asked for that the file has."""


def read_footer(listing: PoolListing, path: str, asked: Asked, schema: PoolSchema) -> Footer:
    """Read the footer of a file, and at most 1 MiB of its content for the fingerprint.

    Raises:
        InputError: the file is unreadable, or lacks a column (names it, and the option).
        StorageError: storage failed for the moment.
    """
    kind = kind_of(listing, path)
    size, fingerprint, claims = kind.examine(listing, path, asked.embedding)
    check_amount(claims, size, path)
    with kind.open(listing, listing.filesystem, path) as file:
        metadata, stored = file.metadata, file.schema_arrow
        row_groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        claimed = tuple(claim.num_rows for claim in claims)
        if min(row_groups, default=0) < 0 or sum(row_groups) != metadata.num_rows or claimed != row_groups:
            raise pa.ArrowInvalid("the footer's row counts contradict each other")
    entry = FileEntry(path, metadata.num_rows, size, fingerprint, row_groups)
    if metadata.num_rows:  # a file without rows need not have columns
        for name, option in asked.options().items():
            if name != asked.id or name in stored.names or not asked.may_lack_id:  # else all files are asked first
                FileColumns(schema, path, stored, [name], option)
    kinds = types_of(stored)
    types = {name: kinds[name] for name in asked.options() if len(stored.get_all_field_indices(name)) == 1}
    types |= {name: pair_type(kinds) for name in asked.options() if stands_in_pair(name, kinds)}
    return Footer(entry, claims, types)


def stored_schema(listing: PoolListing, path: str) -> pa.Schema:
    """Return the columns of a file; errors as of `read_footer`."""
    kind = kind_of(listing, path)
    kind.examine(listing, path, "")
    with kind.open(listing, listing.filesystem, path) as file:
        return file.schema_arrow
