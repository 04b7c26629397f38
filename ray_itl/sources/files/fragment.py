"""Fragments of Lance datasets."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pyarrow.fs as pafs

from ray_itl.sources.files.opened import Examined
from ray_itl.sources.footer import GroupClaim
from ray_itl.sources.tables.lance import Fragment, open_fragment
from ray_itl.sources.tables.listing import PoolListing
from ray_itl.sources.tables.place import Place


class FragmentKind:
    """Fragments of Lance datasets (see `FileKind`)."""

    def examine(self, listing: PoolListing, path: str, column: str) -> Examined:
        """Ask the dataset; it says nothing of single columns."""
        del column
        with open_fragment(listing, listing.filesystem, path) as fragment:
            groups = range(fragment.metadata.num_row_groups)
            claims = [GroupClaim(fragment.metadata.row_group(group).num_rows, 0) for group in groups]
            return Examined(fragment.size_bytes, fragment.fingerprint, claims)

    def fingerprint(self, place: Place, filesystem: pafs.FileSystem, path: str) -> str:
        """Return the fingerprint of a fragment."""
        with open_fragment(place, filesystem, path) as fragment:
            return fragment.fingerprint

    def open(self, place: Place, filesystem: pafs.FileSystem, path: str) -> AbstractContextManager[Fragment]:
        """See `open_fragment`."""
        return open_fragment(place, filesystem, path)
