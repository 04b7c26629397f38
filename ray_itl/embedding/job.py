"""One embedding run from start to finish: open, embed part by part, check. Continues where an earlier try stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ray_itl.core.ids import id_span
from ray_itl.embedding.encoder import Encoder
from ray_itl.embedding.keeping import all_skipped, keep_what_is_good, list_skipped
from ray_itl.embedding.layout import BY_FILE
from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.embedding.progress import EmbedProgress
from ray_itl.embedding.settings import EmbedJobSettings, with_absolute_paths_of
from ray_itl.embedding.source import EmbeddedSource
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.io.atomic import write_json
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import Heartbeat
from ray_itl.options.declare import deciding
from ray_itl.options.text import to_yaml
from ray_itl.runs.command import command_line
from ray_itl.runs.directory import RunDirectory
from ray_itl.runs.environment import environment
from ray_itl.runs.paths import absolute_path, run_directory
from ray_itl.shards.loading import repeated_id_error
from ray_itl.sources.bad_rows import SKIPPED_FILE, BadRows, BadRowsError
from ray_itl.sources.base import RowSource
from ray_itl.sources.open import open_raw_rows

FOLDER = "embeddings"
_TRIED = 64
"""Rows on which an encoder is tried at the start."""


@dataclass(frozen=True)
class EmbedResult:
    """What a run left behind."""

    path: Path
    """A folder of Parquet files with columns id, embedding and the carried ones: a pool for `curate`."""
    num_rows: int
    """Of the pool that was embedded."""
    dim: int
    dtype: str
    rows_found: int
    """Rows that earlier tries had embedded."""
    seconds: float
    """Of this try, spent on embedding."""
    skipped: int = 0
    """Rows that cannot be embedded and were left out."""

    def summary(self) -> JobSummary:
        """Return what the job says at its end."""
        done = self.num_rows - self.rows_found - self.skipped
        rate = f" in {self.seconds:.1f} s ({done / max(self.seconds, 1e-9):,.0f} rows/s)" if done else ""
        found = f"; {self.rows_found:,} were there already" if self.rows_found else ""
        left_out = f"; {self.skipped:,} that cannot be embedded were left out" if self.skipped else ""
        headline = f"embedded {done:,} of {self.num_rows:,} rows as {self.dim:,} x {self.dtype}{rate}{found}{left_out}"
        select = command_line("curate", f"pool.path={self.path}")
        listed = {"skipped": str(self.path.parent / SKIPPED_FILE)} if self.skipped else {}
        lines = [f"embeddings: {self.path}", *(f"skipped: {path}" for path in listed.values())]
        details = "\n".join(lines) + f"\nnext: select from them: {select} target.path=..."
        facts = {"done": done, "of": self.num_rows, "dim": self.dim, "dtype": self.dtype, "seconds": self.seconds}
        facts["skipped"] = self.skipped
        paths = {"results": str(self.path.parent), "embeddings": str(self.path), **listed}
        return JobSummary(headline, details, facts, paths)


def embed_pool(settings: EmbedJobSettings, reporter: Reporter | None = None) -> EmbedResult:
    """Embed every row of a pool into `settings.run.dir`, or finish the run that is there.

    Where files of the pool have changed since, an unfinished run keeps the parts of those that have not.

    Args:
        settings: All options; paths absolute (see `with_absolute_paths`).
        reporter: Where progress goes.

    Raises:
        BadRowsError: rows that cannot be embedded, unless they are skipped; all other parts are finished first.
        InputError, ConfigError: inputs or options that cannot be used; of a new run nothing is left behind, except
            parts that were finished already.
        RunDirectoryError: the directory cannot be written or belongs to another run, or a part in it is damaged.
        ShardError: the workers failed for good; the same call continues.
    """
    reporter = reporter or Reporter(settings.run.log)
    run, parts, identity = open_job(settings, reporter)
    details = _details(settings, parts)
    for note in (*parts.source.embedder.notes, *parts.manifest.remarks):
        reporter.info(note)
    keep_what_is_good(run, parts, identity, details, reporter)
    state = run.begin(identity, details, to_yaml(settings))
    if state == "finished":
        reporter.info(f"this run is finished already: its results are in {run.path}")
        return _embedded(parts, parts.source.num_rows, 0.0, len(all_skipped(parts)))
    status = Heartbeat(lambda facts: run.set_status(**facts))
    reporter.on_waiting = status.waiting
    try:
        with status.beating():
            _check_cluster(settings)
            _check_ids(parts, reporter)
            return _embed(settings, run, parts, reporter, status)
    except BaseException as error:
        if not (isinstance(error, InputError | ConfigError) and _abandon(run, parts)):
            with suppress(RunDirectoryError):  # what went wrong first is what matters
                status.end(error)
        raise


def with_absolute_paths(settings: EmbedJobSettings) -> EmbedJobSettings:
    """Return the settings with absolute paths; run.dir becomes runs/<time> where none is set.

    Raises:
        ConfigError: under `ray job submit`, unless run.dir is absolute.
    """
    model = settings.model
    name = absolute_path(model.name) if Path(model.name).is_dir() else model.name
    return replace(
        settings,
        pool=replace(settings.pool, path=absolute_path(settings.pool.path)),
        model=replace(
            model,
            name=name,
            checkpoint=absolute_path(model.checkpoint),
            checkpoints=with_absolute_paths_of(model.checkpoints),
        ),
        run=replace(settings.run, dir=run_directory(settings.run.dir)),
    )


class OpenedJob(NamedTuple):
    """A run whose inputs are checked, of which nothing is written yet."""

    run: RunDirectory
    parts: EmbeddingParts
    identity: dict[str, str]
    """Name -> value of everything that decides the files."""


def open_job(settings: EmbedJobSettings, reporter: Reporter) -> OpenedJob:
    """Open pool and model; of the errors see `embed_pool`."""
    if settings.run.dir is None:
        raise ConfigError("run.dir is not set: name a directory for the embeddings")
    run = RunDirectory(settings.run.dir)
    parts = _open(settings, run, reporter)
    return OpenedJob(run, parts, _identity(settings, parts))


def _open(settings: EmbedJobSettings, run: RunDirectory, reporter: Reporter) -> EmbeddingParts:
    pool = settings.pool
    if pool.path is None:
        raise ConfigError("pool.path is not set: name the file, folder, glob or URI of the rows to embed")
    columns = {**dict.fromkeys(pool.columns, "pool.columns"), pool.raw_column: "pool.raw_column"}
    base = open_raw_rows(
        pool.path, id_column=pool.id_column, columns=columns, id_option="pool.id_column", on_text=reporter.texts()
    )
    encoder = _encoder(settings, base)
    for words in encoder.remarks(base.take(np.empty(0, np.int64), [pool.raw_column]).column(0).type):
        reporter.warn(words)
    source = EmbeddedSource(base, pool.raw_column, encoder)
    output, window = settings.output, encoder.window
    part_rows = -(-output.part_rows // window) * window  # whole windows: no row is embedded for two parts
    by_file = run.state == "new" or run.details().get("parts") == BY_FILE
    folder = str(run.path / FOLDER)
    skips = pool.on_bad_row == "skip"
    return EmbeddingParts(source, tuple(pool.columns), output.dtype, part_rows, folder, by_file, skips)


def _encoder(settings: EmbedJobSettings, base: RowSource) -> Encoder:
    """Return what embeds, tried on the first rows."""
    column = settings.pool.raw_column
    batches = base.row_batches(0, min(_TRIED, base.num_rows), [column], BadRows())
    sample = [batch.column(0) for _, batch in batches]
    device = "cuda" if settings.cluster.gpus_per_worker > 0 else "cpu"
    tried = pa.chunked_array(sample).combine_chunks() if sample else None
    try:
        return open_encoder(settings.model, settings.embedding, device, tried)
    except InputError as error:
        if str(error).startswith("the column "):
            raise InputError(f"pool.raw_column={column!r}: {error}") from error
        raise


def _identity(settings: EmbedJobSettings, parts: EmbeddingParts) -> dict[str, str]:
    return {
        **deciding(settings),
        "pool": parts.manifest.fingerprint,
        **parts.source.embedder.identity(),
        # Without quotes, as in the run directories that there are.
        "pool.raw_column": settings.pool.raw_column,
        "output.dtype": settings.output.dtype,
    }


def _details(settings: EmbedJobSettings, parts: EmbeddingParts) -> dict[str, Any]:
    """Return what manifest.json says besides the identity."""
    return {
        "rows": parts.source.num_rows,
        "dim": parts.source.dim,
        "checkpoint": settings.model.checkpoint,
        **parts.source.embedder.details(),
        "pool_manifest": parts.manifest.to_json(),
        **({"parts": BY_FILE} if parts.by_file else {}),
        **environment("transformers", "sentence-transformers", "timm"),
    }


def _embed(
    settings: EmbedJobSettings, run: RunDirectory, parts: EmbeddingParts, reporter: Reporter, status: Heartbeat
) -> EmbedResult:
    Path(parts.folder).mkdir(exist_ok=True)
    missing = parts.missing()
    total = parts.source.num_rows
    before = total - sum(parts.all[part].num_rows for part in missing)
    if before:
        reporter.info(f"continuing the run in {run.path}: {before:,} of {total:,} rows are embedded already")
    bad, progress = BadRows(), EmbedProgress(reporter, status, total, before)
    began = time.perf_counter()
    with reporter.stage("embed"), _embedding(settings, parts, missing, reporter, bad, progress) as finished:
        for _, rows in finished:
            progress.finished(rows)
    seconds = time.perf_counter() - began
    with reporter.stage("check", "comparing ids with the pool's"):
        skipped = list_skipped(run, parts, bad)
        parts.check()
        parts.tidy()
    if skipped:
        reporter.warn(f"{skipped:,} rows that cannot be embedded were left out: {run.path / SKIPPED_FILE}")
    result = _embedded(parts, before, seconds, skipped)
    rate = (total - before) / max(seconds, 1e-9)
    facts = {
        "rows": total,
        "skipped_rows": skipped,
        "dim": result.dim,
        "rows_found": before,
        "seconds": seconds,
        "rows_per_second": rate,
    }
    write_json(run.path / "metrics.json", facts)
    status.tell({"state": "finished", "rows": total, "of": total, "rows_per_s": round(rate, 1), "eta_s": 0})
    return result


def _here(
    parts: EmbeddingParts, missing: list[int], reporter: Reporter, bad: BadRows, progress: EmbedProgress
) -> Iterator[tuple[int, int]]:
    """Write parts in this process; of those that have bad rows, say so at the first, and go on."""
    for part in missing:
        try:
            yield part, parts.write(part, progress.begun)
        except BadRowsError as error:
            progress.given_up()
            if len(error.rows) == parts.all[part].num_rows:  # it is not the rows
                raise
            if not len(bad) and part != missing[-1]:
                reporter.warn(f"{error}; all other parts are embedded before the run ends with this")
            bad.extend(error.rows)


@contextmanager
def _embedding(
    settings: EmbedJobSettings,
    parts: EmbeddingParts,
    missing: list[int],
    reporter: Reporter,
    bad: BadRows,
    progress: EmbedProgress,
) -> Iterator[Iterator[tuple[int, int]]]:
    """Yield (part, rows) of every missing part as it is written, here or on Ray; bad rows are collected."""
    cluster = settings.cluster
    if cluster.num_workers == 0 or not missing:
        reporter.info(f"embedding {len(missing):,} parts in this process")
        yield _here(parts, missing, reporter, bad, progress)
        return
    # Imported here so that embedding in this process never loads Ray.
    from ray_itl.cluster.connection import connect
    from ray_itl.embedding.on_ray import embed_on_ray, plan_workers

    with connect(cluster.address, notify=reporter.info):
        wanted = None if cluster.num_workers == "auto" else cluster.num_workers
        options = plan_workers(
            wanted, cluster.cpus_per_worker, cluster.gpus_per_worker, len(missing), cluster.start_deadline_s
        )
        reporter.info(f"embedding {len(missing):,} parts on Ray with {options.num_workers} workers")
        with closing(embed_on_ray(parts, missing, options, reporter.waiting, bad, progress.all_begun)) as finished:
            yield finished


def _check_cluster(settings: EmbedJobSettings) -> None:
    """Raise ConfigError for an address that no cluster can have, before any work is spent."""
    if settings.cluster.num_workers != 0:
        # Imported here so that embedding in this process never loads Ray.
        from ray_itl.cluster.connection import check_address

        check_address(settings.cluster.address)


def _check_ids(parts: EmbeddingParts, reporter: Reporter) -> None:
    """Raise InputError for an id that occurs twice, before any work is spent. All ids in memory, sorted."""
    source = parts.source
    with reporter.stage("ids", "checking that ids are unique"):
        bad = BadRows()
        ids = np.concatenate([ids for ids, _ in source.base.row_batches(0, source.num_rows, [], bad)])
        positions = np.delete(np.arange(len(ids)), bad.positions)
        ids = ids[positions]
        repeated = id_span(ids).repeated if len(ids) else None
        if repeated is not None:
            raise repeated_id_error(source, repeated, positions[ids == repeated])


def _abandon(run: RunDirectory, parts: EmbeddingParts) -> bool:
    """Take back what a run without a finished part left; False if there is one."""
    folder = Path(parts.folder)
    if len(parts.missing()) < parts.num_parts:
        return False
    with suppress(FileNotFoundError):
        folder.rmdir()
    run.abandon()
    return True


def _embedded(parts: EmbeddingParts, rows_found: int, seconds: float, skipped: int) -> EmbedResult:
    source = parts.source
    return EmbedResult(Path(parts.folder), source.num_rows, source.dim, parts.dtype, rows_found, seconds, skipped)
