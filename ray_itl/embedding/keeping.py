"""What an embedding run keeps of tries before it, and what it lists of rows that it left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ray_itl.embedding.layout import contents
from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.reporter import Reporter
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.bad_rows import REMEDY, SKIPPED_FILE, BadRows
from ray_itl.sources.manifest import Manifest, describe_changes


def keep_what_is_good(
    run: RunDirectory, parts: EmbeddingParts, identity: dict[str, str], details: dict[str, Any], reporter: Reporter
) -> None:
    """Fit a run to a pool some files of which have changed: parts of the others stay.

    One that is finished goes on where files have been added, and none is gone or another.
    """
    if run.state == "new" or not parts.by_file:
        return
    if _goes_on(run, parts, identity):
        before = run.read_pool_manifest()
        if run.state == "finished":
            run.set_status("running", rows=before.num_rows)  # until it is finished anew
        kept = parts.put_aside(before)
        reporter.warn(
            f"the pool has changed since ({describe_changes(before, parts.manifest)}): {kept:,} finished parts are of "
            "files that have not, and are kept"
        )
        run.renew(identity, details)
    if not run.changes(identity):
        parts.put_back()


def rows_kept(run: RunDirectory, parts: EmbeddingParts, identity: dict[str, str]) -> int:
    """Return how many rows tries before have embedded, as `keep_what_is_good` will find; changes nothing.

    Raises:
        RunDirectoryError: the directory is another run's, or cannot be written.
    """
    if run.state != "new" and parts.by_file and _goes_on(run, parts, identity):
        present, before = contents(parts.manifest, parts.part_rows), contents(run.read_pool_manifest(), parts.part_rows)
        kept = [present[name] for name, number in before.items() if name in present and parts.path(number).exists()]
        return sum(parts.all[part].num_rows for part in kept)
    run.check(identity)
    missing = parts.missing() if run.state != "new" else range(parts.num_parts)
    return parts.source.num_rows - sum(parts.all[part].num_rows for part in missing)


def _goes_on(run: RunDirectory, parts: EmbeddingParts, identity: dict[str, str]) -> bool:
    """Whether a run is one of the same pool with other files, and may go on with them."""
    if run.changes(identity) != ["pool"]:
        return False
    return run.state == "unfinished" or _has_grown(run.read_pool_manifest(), parts.manifest)


def _has_grown(before: Manifest, after: Manifest) -> bool:
    """Whether a pool is what it was, with further files."""
    files = {file.path: file.fingerprint for file in before.files}
    same = replace(after, files=tuple(file for file in after.files if file.path in files))
    return len(after.files) > len(files) and not describe_changes(before, same)


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
