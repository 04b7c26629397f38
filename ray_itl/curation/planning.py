"""What a run would take, said before a row is loaded.

It follows from the pool's footers and a second of measurements: how fast this machine reads the pool, multiplies, and
uses its disk. Nothing is left behind, but for embeddings of targets and other small samples that had none.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ray_itl.curation.beforehand import check_before, check_run_directory
from ray_itl.curation.constraints import with_limits, with_lists, with_number
from ray_itl.curation.demo import digits_settings
from ray_itl.curation.lengthscale import with_lengthscale
from ray_itl.curation.open import open_problem
from ray_itl.curation.outputs import check_columns
from ray_itl.curation.pool import plan_local, storage_options
from ray_itl.curation.problem import Problem
from ray_itl.curation.rates import Rates, measure_rates
from ray_itl.curation.settings import CurationSettings
from ray_itl.distributed.placement import ShardPlan
from ray_itl.embedding.cached import CachedEncoding
from ray_itl.embedding.survey import EmbeddingSurvey, survey
from ray_itl.io.temporary import temporary_folder
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import short
from ray_itl.shards.cache import ShardCache
from ray_itl.shards.footprint import Footprint, StorageOptions, available_memory
from ray_itl.sources.encoding import encoding_of
from ray_itl.sources.in_memory import TableSource
from ray_itl.sources.parquet import ParquetSource
from ray_itl.text import format_size

_PICKS_PER_PASS = (10, 50)
_BASELINE_PASSES = {"nearest": 1, "cosine": 1, "random": 0}


@dataclass(frozen=True)
class RunPlan:
    """The shards of a run, and what is to be expected of it."""

    num_rows: int
    dim: int
    shards: ShardPlan
    in_process: bool
    available: int | None
    """Memory that this process could take, where the shard is in it."""
    memory_limit: int | None
    cache_folder: Path | None
    """Where features are kept on disk, if they are."""
    passes: tuple[int, int]
    rates: Rates
    embedding: EmbeddingSurvey | None = None
    """What embedding takes, where rows have no embeddings."""
    threads: int = 1
    """With which this process computes, as it measured."""
    left: str = "Nothing was run or kept."
    """What planning left behind."""
    told: tuple[str, ...] = ()
    """How many rows a percentage is, and what will not be as asked for, though the run goes on."""

    @property
    def shard(self) -> Footprint:
        """What the largest shard takes."""
        return self.shards.footprint(-(-self.num_rows // self.shards.num_shards), self.dim)

    @property
    def load_seconds(self) -> float:
        """Expected seconds to load all rows."""
        written = self.shard.feature_bytes / self.rates.disk_bytes if self.rates.disk_bytes else 0.0
        return self.shard.num_rows / self.rates.load_rows + written

    @property
    def embed_seconds(self) -> float:
        """Expected seconds to embed what was never seen, by all shards side by side."""
        if self.embedding is None:
            return 0.0
        cores = 1.0 if self.in_process else self.shards.num_shards * self.shards.num_threads / self.threads
        return self.embedding.seconds / cores

    @property
    def pass_seconds(self) -> float:
        """Expected seconds of a pass: reading and computing go on side by side."""
        computing = self.shard.num_rows / self.rates.pass_rows
        if not self.rates.disk_bytes:
            return computing
        copied = self.shards.disk_copy_bytes * self.shard.num_rows
        size = copied if self.shards.copy_bytes else self.shard.feature_bytes
        return max(size / self.rates.disk_bytes, computing)

    def table(self) -> str:
        """Return everything as lines for people."""
        shard, shards = self.shard, self.shards
        low, high = self.passes
        where = f"on disk, in {self.cache_folder}" if shards.on_disk else f"in memory, on {shards.device}"
        lines = {
            "pool": f"{self.num_rows:,} rows x {self.dim:,} features, {shards.dtype}",
            "shards": "1, in this process" if self.in_process else f"{shards.num_shards}, on Ray",
            "rows per shard": f"{shard.num_rows:,}",
            "features per shard": f"{format_size(shard.feature_bytes)}, {where}",
            "copies per shard": self._copies(),
            "memory per shard": self._memory(),
            **self._embedding_lines(),
            "passes expected": f"{low} to {high}" if low < high else str(low),
            "loading": f"about {_duration(self.load_seconds)}{' (less if cached)' if shards.on_disk else ''}",
            "each pass": f"about {_duration(self.pass_seconds)}",
            "in all": f"about {_duration(self._total(low))} to {_duration(self._total(high))}",
        }
        table = "\n".join(f"{name:<20}{text}" for name, text in lines.items())
        table = "\n".join([table, *self.told])
        return f"{table}\n\nTimes are rough: from speeds measured just now on this machine. {self.left}"

    def summary(self) -> JobSummary:
        """Return what the job says: the plan, and nothing else happened."""
        low, high = self.passes
        facts = {
            "rows": self.num_rows,
            "dim": self.dim,
            "shards": self.shards.num_shards,
            "on_disk": self.shards.on_disk,
            "passes": self.passes,
            "load_s": round(self.load_seconds, 3),
            "pass_s": round(self.pass_seconds, 3),
            **self._embedding_facts(),
            "seconds": (round(self._total(low), 3), round(self._total(high), 3)),
        }
        took = f"about {_duration(self._total(low))} to {_duration(self._total(high))}"
        return JobSummary(f"a run on {self.num_rows:,} rows x {self.dim:,} would take {took}", self.table(), facts)

    def _embedding_lines(self) -> dict[str, str]:
        found = self.embedding
        if found is None:
            return {}
        about = "" if found.is_exact else "about "
        took = "" if found.embed_rows is None else f", {short(found.embed_rows)} rows/s in this process"
        took += f": about {_duration(self.embed_seconds)}" if found.embed_rows is not None else ""
        free = "" if found.free is None else f" ({format_size(max(0, found.free))} free)"
        return {
            "to embed": f"{about}{found.num_new:,} of {found.num_rows:,} rows were never seen{took}",
            "embeddings kept": f"{format_size(found.size)} more, in {found.place}{free}",
        }

    def _embedding_facts(self) -> dict[str, object]:
        found = self.embedding
        if found is None:
            return {}
        return {"rows_to_embed": found.num_new, "embed_s": round(self.embed_seconds, 3), "embed_bytes": found.size}

    def _copies(self) -> str:
        """Say what passes read."""
        size = self.shards.copy_bytes * self.shard.num_rows
        if size:
            where = "on disk, too" if self.shards.copies_on_disk else "in memory"
            return f"{format_size(size)}, {where}: passes read these, and the rows only of the few in doubt"
        return "none: passes read the rows"

    def _memory(self) -> str:
        need = self.shards.memory(self.shard.num_rows, self.dim)
        bounds = []
        if self.memory_limit is not None:
            bounds.append(f"cluster.memory_per_shard={format_size(self.memory_limit)}")
        if self.available is not None:
            bounds.append(f"{format_size(self.available)} free")
        return f"{format_size(need)} besides the process itself" + (f" ({', '.join(bounds)})" if bounds else "")

    def _total(self, passes: int) -> float:
        return self.load_seconds + self.embed_seconds + passes * self.pass_seconds


def planned(settings: CurationSettings) -> RunPlan:
    """Plan the run of some settings; without a pool, that of the demo. What is left behind, the plan says.

    Reads the pool's footers, the targets and some of the pool's first rows.

    Raises:
        InputError, ConfigError: as the run itself would, also where it cannot fit.
    """
    with temporary_folder("plan") if settings.pool.path is None else nullcontext(Path()) as folder:
        settings = digits_settings(settings, folder) if settings.pool.path is None else settings
        problem, settings, told = checked(settings)
        in_process = settings.cluster.num_shards == 0
        shards = plan_local(problem, settings) if in_process else _on_ray(problem, settings)
        storage = storage_options(problem, settings)
        cache = _cache(problem, shards, storage, in_process) if shards.on_disk else None
        embedding = survey_of(problem)
        return RunPlan(
            embedding=embedding,
            threads=torch.get_num_threads(),
            num_rows=problem.source.num_rows,
            told=tuple(told),
            left=left_words(settings),
            dim=problem.dim,
            shards=shards,
            in_process=in_process,
            available=available_memory() if in_process else None,
            memory_limit=storage.memory_per_shard,
            cache_folder=cache,
            passes=expected_passes(settings),
            rates=measure_rates(problem, cache, settings.pool.on_bad_row == "skip", embedding),
        )


def survey_of(problem: Problem, tries_known: bool = False) -> EmbeddingSurvey | None:
    """Return what embedding the pool takes (see `survey`); None where rows have embeddings."""
    source = problem.source
    encoding = encoding_of(source)
    if not isinstance(encoding, CachedEncoding) or not isinstance(source, ParquetSource | TableSource):
        return None
    return survey(source, encoding, tries_known)


def left_words(settings: CurationSettings) -> str:
    """Say what planning left behind."""
    if settings.encoder.name is None:
        return "Nothing was run or kept."
    return (
        "Nothing was run. Kept are the embeddings of those target, known, avoided and held-out rows that had none: the "
        "run needs them, too."
    )


def checked(settings: CurationSettings) -> tuple[Problem, CurationSettings, list[str]]:
    """Return the problem of a run, checked as the run does before it loads a row, its options, and what to tell of.

    The options have `selection.n` as a number, and told is what will not be as asked for.

    Of a tick, which may find fewer rows than selection.n, it is that of a first one on the whole pool.
    """
    check_columns(settings.pool.columns, settings.selection.explain)
    is_tick, chosen = settings.state.dir is not None, settings.selection
    opened = open_problem(replace(settings, selection=replace(chosen, n=1)) if is_tick else settings)
    problem = replace(opened, selection=chosen).at_most_all() if is_tick else opened
    problem, told = with_lists(problem, settings), []
    settings = with_lengthscale(with_number(settings, problem, told.append), problem)
    problem = with_limits(problem, settings)
    told += [*problem.notes, *check_before(problem, settings)]
    check_run_directory(problem, settings)
    return problem, settings, told


def _cache(problem: Problem, shards: ShardPlan, storage: StorageOptions, in_process: bool) -> Path:
    """Return the folder of the cache; ConfigError or CacheError where it cannot hold a shard."""
    cache = ShardCache(storage.cache_folder, storage.cache_limit)
    rows = -(-problem.source.num_rows // shards.num_shards)
    size = storage.disk_bytes(rows, problem.dim, shards.dtype, shards.disk_copy_bytes)
    if in_process:
        cache.check_room(size)
    else:
        cache.check_limit(size)
    return cache.folder


def expected_passes(settings: CurationSettings) -> tuple[int, int]:
    """Return how many reads of all features to expect, at least and at most, but for pools full of near-ties."""
    compared = 1 if settings.evaluation.class_column and settings.acquisition.name != "nearest" else 0
    compared += settings.heldout.path is not None and settings.heldout.embedding_column is not None
    compared += settings.selection.min_similarity is not None
    if settings.acquisition.name in _BASELINE_PASSES:
        passes = _BASELINE_PASSES[settings.acquisition.name] + compared
        return passes, passes
    high, low = (1 + -(-settings.selection.n // picks) + compared for picks in _PICKS_PER_PASS)
    return low, high


def _on_ray(problem: Problem, settings: CurationSettings) -> ShardPlan:
    # Imported here so that plans of this process never load Ray.
    from ray_itl.cluster.connection import connect
    from ray_itl.distributed.opening import plan_for_cluster

    with connect(settings.cluster.address):
        rows, dim, dtype = problem.source.num_rows, problem.dim, settings.pool.dtype
        return plan_for_cluster(rows, dim, dtype, settings.cluster, storage_options(problem, settings))


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
