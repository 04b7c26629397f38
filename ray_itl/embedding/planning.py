"""What an embedding run would take, from a sample of its rows embedded just now. Nothing is left behind."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from ray_itl.embedding.job import OpenedJob, open_job
from ray_itl.embedding.keeping import rows_kept
from ray_itl.embedding.settings import EmbedJobSettings, WorkerSettings
from ray_itl.errors import ConfigError
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import Reporter
from ray_itl.sources.bad_rows import BadRows
from ray_itl.text import duration, format_size

_STRETCHES, _STRETCH_ROWS = 8, 32
"""Of rows that are measured: so many, spread over the pool."""


@dataclass(frozen=True)
class EmbedPlan:
    """What is to be expected of a run."""

    num_rows: int
    num_left: int
    """Rows that are not embedded yet."""
    num_bad: int
    """Rows of the sample that cannot be embedded."""
    num_measured: int
    dim: int
    dtype: str
    rows_per_s: float
    """Of all workers together."""
    workers: str
    """Where the model runs, in words."""
    row_bytes: float
    """Of an embedded row on disk, with the columns carried along."""
    free_bytes: int
    """On the disk of run.dir."""
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Expected seconds, without the start of workers."""
        return self.num_left / self.rows_per_s

    @property
    def size(self) -> float:
        """Expected bytes of what is still to be written."""
        return self.num_left * self.row_bytes

    def table(self) -> str:
        """Return everything as lines for people."""
        found = self.num_rows - self.num_left
        lines = {
            "pool": f"{self.num_rows:,} rows" + (f", {found:,} of them embedded already" if found else ""),
            "embeddings": f"{self.dim:,} x {self.dtype}",
            "workers": self.workers,
            "rate": f"about {self.rows_per_s:,.0f} rows/s, from {self.num_measured:,} rows embedded just now",
            "in all": f"about {duration(round(self.seconds))}, without the start of workers",
            "room": f"{format_size(self.size)} on disk, of {format_size(self.free_bytes)} free",
        }
        table = "\n".join(f"{name:<14}{text}" for name, text in lines.items())
        return "\n".join([table, *self.notes, "", "Nothing was run or kept."])

    def summary(self) -> JobSummary:
        """Return what the job says."""
        facts = {
            "rows": self.num_rows,
            "left": self.num_left,
            "dim": self.dim,
            "rows_per_s": round(self.rows_per_s, 1),
            "seconds": round(self.seconds, 1),
            "bytes": round(self.size),
        }
        headline = f"embedding {self.num_left:,} rows would take about {duration(round(self.seconds))}"
        return JobSummary(headline, self.table(), facts)


def planned_embedding(settings: EmbedJobSettings, reporter: Reporter | None = None) -> EmbedPlan:
    """Plan a run and leave nothing behind.

    Raises:
        InputError, ConfigError, RunDirectoryError: as the run itself would, also where the disk cannot hold it.
    """
    job = open_job(settings, reporter or Reporter(settings.run.log))
    parts, source = job.parts, job.parts.source
    left = source.num_rows - rows_kept(job.run, parts, job.identity)
    sample, carried = _sample(job)
    bad = source.embedder.undecodable(sample)
    sound = sample.take(pa.array([row for row in range(len(sample)) if row not in bad], pa.int64()))
    rate, workers = _speed(settings.cluster, _rate(job, sound))
    free = shutil.disk_usage(job.run.nearest).free
    plan = EmbedPlan(
        num_rows=source.num_rows,
        num_left=left,
        num_bad=len(bad),
        num_measured=len(sound),
        dim=source.dim,
        dtype=parts.dtype,
        rows_per_s=rate,
        workers=workers,
        row_bytes=source.dim * np.dtype(parts.dtype).itemsize + carried,
        free_bytes=free,
        notes=(*source.embedder.notes, *_told_of_bad(settings, len(bad), len(sample))),
    )
    if plan.size > free:
        raise ConfigError(
            f"run.dir={job.run.path} cannot be used: embeddings take {format_size(plan.size)}, and its disk has "
            f"{format_size(free)} free; name another, or set output.dtype=float16"
        )
    return plan


def _sample(job: OpenedJob) -> tuple[pa.Array, float]:
    """Return raw rows from all over the pool, and the bytes of a row that the columns carried along and ids take."""
    source = job.parts.source
    starts = np.linspace(0, max(source.num_rows - _STRETCH_ROWS, 0), _STRETCHES).astype(np.int64)
    rows = np.unique(np.minimum(starts[:, None] + np.arange(_STRETCH_ROWS), source.num_rows - 1))
    raw, columns = source.raw_column, job.parts.columns
    read = [batch for _, batch in source.base.row_batches_at(rows, list(dict.fromkeys([raw, *columns])), BadRows())]
    table = pa.concat_tables([pa.Table.from_batches([batch]) for batch in read], promote_options="default")
    carried = table.select(list(columns)).nbytes / max(len(table), 1) + 8
    return table.column(raw).combine_chunks(), carried


def _rate(job: OpenedJob, sample: pa.Array) -> float:
    """Return rows a second of this process, whose model is loaded and warm by then."""
    encoder = job.parts.source.embedder
    encoder.embed_column(sample.slice(0, 1))
    began = time.perf_counter()
    encoder.embed_column(sample)
    return max(len(sample), 1) / max(time.perf_counter() - began, 1e-9)


def _speed(cluster: WorkerSettings, rate: float) -> tuple[float, str]:
    """Return the rate of all workers, by the cores that they have beside those that were measured, and words."""
    cores = os.cpu_count() or 1
    if cluster.num_workers == 0:
        return rate, "this process"
    if cluster.gpus_per_worker > 0:
        count = 1 if cluster.num_workers == "auto" else int(cluster.num_workers)
        what = "the GPU" if torch.cuda.is_available() else "CPUs, as this process has no GPU: much too slow"
        return rate * count, f"{count} on Ray, measured on {what}"
    if cluster.num_workers == "auto":
        return rate, f"as many on Ray as there is room for, reckoned as the {cores} cores of this machine"
    used = cluster.num_workers * cluster.cpus_per_worker
    return rate * used / torch.get_num_threads(), f"{cluster.num_workers} on Ray, of {cluster.cpus_per_worker:g} CPUs"


def _told_of_bad(settings: EmbedJobSettings, bad: int, rows: int) -> list[str]:
    if not bad:
        return []
    skips = settings.pool.on_bad_row == "skip"
    then = "they would be left out" if skips else "the run would end with their names, unless pool.on_bad_row=skip"
    return [f"{bad:,} of {rows:,} rows looked at cannot be embedded: {then}"]
