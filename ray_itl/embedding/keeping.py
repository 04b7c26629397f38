"""What an embedding run keeps of tries before it, and what it lists of rows that it left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.reporter import Reporter
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.bad_rows import REMEDY, SKIPPED_FILE, BadRows
from ray_itl.sources.manifest import describe_changes


def keep_what_is_good(
    run: RunDirectory, parts: EmbeddingParts, identity: dict[str, str], details: dict[str, Any], reporter: Reporter
) -> None:
    """Fit an unfinished run to a pool some files of which have changed: parts of the others stay."""
    if run.state != "unfinished" or not parts.by_file:
        return
    if run.changes(identity) == ["pool"]:
        before = run.read_pool_manifest()
        kept = parts.put_aside(before)
        reporter.warn(
            f"the pool has changed since ({describe_changes(before, parts.manifest)}): {kept:,} finished parts are of "
            "files that have not, and are kept"
        )
        run.renew(identity, details)
    if not run.changes(identity):
        parts.put_back()


def list_skipped(run: RunDirectory, parts: EmbeddingParts, bad: BadRows) -> int:
    """Write skipped.parquet, if parts left rows out, and return their number.

    Raises:
        BadRowsError: there are bad rows that may not be skipped, in parts not written or written by another try.
        InputError: no row at all is left.
    """
    there = set(range(parts.num_parts)) - set(parts.missing())
    skipped = all_skipped(parts, sorted(there))
    if len(bad) or (len(skipped) and not parts.skips):
        bad.extend(skipped)
        raise bad.refusal(parts.source.locate, REMEDY)
    if len(skipped) == parts.source.num_rows:
        raise skipped.refusal(parts.source.locate)
    if len(skipped):
        write_parquet_table(run.path / SKIPPED_FILE, skipped.table(parts.source.locate, parts.source.id_kind))
    return len(skipped)


def all_skipped(parts: EmbeddingParts, numbers: Iterable[int] | None = None) -> BadRows:
    """Return the rows that written parts left out, of all parts or of some."""
    found = BadRows()
    for part in range(parts.num_parts) if numbers is None else numbers:
        found.extend(parts.skipped(part))
    return found
