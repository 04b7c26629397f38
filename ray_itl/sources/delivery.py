"""Files that are still on their way into a pool: how they are told from files that are damaged for good."""

from __future__ import annotations

import time

from ray_itl.errors import UnfinishedFileError
from ray_itl.io.listing import Listing
from ray_itl.io.walk import Stamp, stamp_of
from ray_itl.sources.footer import NoFooterError
from ray_itl.sources.text.json_lines import UnendedLineError

RECENT_S = 600.0
"""A file that is cut short, and changed less than this many seconds ago, may still be being written."""


def unfinished(listing: Listing, path: str, error: Exception) -> UnfinishedFileError | None:
    """Return the error for a file that could not be read since it is not finished, None if that is not the cause.

    It is not finished if it is another one than was listed a moment ago. Nor is it if it has no end and changed within
    the last RECENT_S seconds, by the clock of whoever keeps the file in comparison with this machine's: where these
    disagree by more, it is taken for a damaged file.

    Args:
        listing: In which the file is one of `paths`.
        path: The file.
        error: What went wrong.
    """
    before = listing.stamps.get(path)
    if before is None or isinstance(error, PermissionError):
        return None
    try:
        now = stamp_of(listing.filesystem, listing.full_path(path))
    except OSError:
        return None
    later = "run the same command again later, or set pool.settle_s to pass over files that are younger"
    if now != before:
        what = "has gone" if now is None else "has changed"
        return UnfinishedFileError(f"file {path!r} {what} since it was listed a moment ago: {later}")
    if isinstance(error, NoFooterError | UnendedLineError) and _is_recent(before):
        what = "" if isinstance(error, UnendedLineError) else f"file {path!r} cannot be read as Parquet: "
        return UnfinishedFileError(
            f"{what}{error}; it changed less than {RECENT_S:.0f} s ago, so it may still be being written: {later}"
        )
    return None


def _is_recent(stamp: Stamp) -> bool:
    return stamp.changed is not None and abs(time.time() - stamp.changed) < RECENT_S
