"""What a run would take on machines that are not at hand: hours, memory and disk, by storage and precision.

Speeds are those of this machine, a core here for a core there; what is assumed besides is said below the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.screening.arithmetic import multiply_integers
from ray_itl.curation.demo import digits_settings
from ray_itl.curation.machine_settings import MachineSettings
from ray_itl.curation.percentage import number_among
from ray_itl.curation.planning import checked, expected_passes, left_words, survey_of
from ray_itl.curation.pool import storage_options
from ray_itl.curation.rates import COLUMNS, measure_rates
from ray_itl.curation.settings import CurationSettings
from ray_itl.distributed.placement import ShardPlan, plan_shards_for
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.embedding.survey import EmbeddingSurvey
from ray_itl.io.temporary import temporary_folder
from ray_itl.observability.console import JobSummary
from ray_itl.shards.cache import ShardCache
from ray_itl.shards.footprint import PROCESS_BYTES, Screening, Storage, StorageOptions
from ray_itl.text import duration, format_size, parse_size, plural

_RAYS_SHARE = 0.7
"""Of a machine's memory: Ray keeps the rest for objects."""
_GPU_BYTES_PER_S = 1e12
_TYPES = ("float32", "bfloat16")
_KEPT: tuple[tuple[Storage, Screening], ...] = (
    ("memory", "int8"),
    ("memory", "float32"),
    ("disk", "int8"),
    ("disk", "float32"),
)
_DAY_S = 86400
_HEADS = ("rows in", "kept", "screened", "shards", "memory a machine", "disk a machine", "load", "pass", "in all")
_PLANES, _REPEATS = 3, 6


@dataclass(frozen=True)
class CoreRates:
    """Speeds of this machine, by which those of others are judged."""

    num_threads: int
    load_rows: float
    """Rows a second that one process reads and maps."""
    pass_rows: float
    """Rows a second that a pass gets through in float32, with all threads."""
    integer_rows: float | None
    """The same in int8; None where this machine cannot."""
    disk_bytes: float
    """Bytes a second that its disk gives."""
    pick_s: float
    """Seconds of the driver for a pick."""


@dataclass(frozen=True)
class Tier:
    """One way to keep rows, on all machines."""

    shards: ShardPlan
    screening: Screening
    memory: int
    """Bytes that its shards take on a machine."""
    fits: bool
    """Whether memory, on GPUs theirs, holds that."""
    disk: int
    """Bytes on the disk of a machine; 0 where rows are in memory."""
    disk_holds: bool | None
    """None where nobody said how large the disk is."""
    load_s: float
    pass_s: float

    def seconds(self, passes: int, once_s: float) -> float:
        """Return what a run takes in all, given what the driver and embedding take."""
        return self.load_s + passes * self.pass_s + once_s


@dataclass(frozen=True)
class MachinePlan:
    """What is to be expected on some machines."""

    machines: MachineSettings
    num_rows: int
    dim: int
    num_picks: int
    passes: tuple[int, int]
    tiers: tuple[Tier, ...]
    driver_bytes: int
    driver_s: float
    rates: CoreRates
    embedding: EmbeddingSurvey | None = None
    """What embedding takes, where rows have no embeddings."""
    told: tuple[str, ...] = ()
    left: str = "Nothing was run or kept."
    """What planning left behind."""

    @property
    def embed_s(self) -> float:
        """Seconds to embed what was never seen, by all CPUs there side by side."""
        if self.embedding is None:
            return 0.0
        cores = self.machines.nodes * (self.machines.cpus or 1)
        return self.embedding.seconds * self.rates.num_threads / cores

    @property
    def _once_s(self) -> float:
        return self.driver_s + self.embed_s

    def table(self) -> str:
        """Return everything as lines for people."""
        each, low, high = self.machines, *self.passes
        gpus = f", {plural(each.gpus, 'GPU')} of {each.gpu_memory}" if each.gpus else ""
        rows = [_HEADS, *(self._row(tier) for tier in self.tiers)]
        widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADS))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(
            [
                f"pool      {self.num_rows:,} rows x {self.dim:,} features",
                f"machines  {each.nodes:,} with {plural(each.cpus or 0, 'CPU')} and {each.memory}{gpus}",
                f"passes    {low} to {high}, for {plural(self.num_picks, 'pick')}",
                f"driver    {format_size(self.driver_bytes)} of memory and {_long(self.driver_s)}, on one machine",
                *self._embedding_lines(),
                "",
                *table,
                "",
                *self._assumptions(),
                *self.told,
                "",
                self.left,
            ]
        )

    def summary(self) -> JobSummary:
        """Return what the job says: the quickest way that fits, or that none does."""
        low, high = self.passes
        able = [tier for tier in self.tiers if tier.fits and tier.disk_holds is not False]
        what = f"a run on {self.num_rows:,} rows x {self.dim:,}"
        facts = {"rows": self.num_rows, "dim": self.dim, "nodes": self.machines.nodes, "passes": self.passes}
        if not able:
            return JobSummary(f"{what} does not fit these machines", self.table(), {**facts, "fits": False})
        best = min(able, key=lambda tier: tier.seconds(high, self._once_s))
        took = tuple(round(best.seconds(passes, self._once_s), 3) for passes in (low, high))
        where = "on disk" if best.shards.on_disk else "in memory"
        headline = f"{what} would take about {_long(took[0])} to {_long(took[1])} there, {best.shards.dtype} {where}"
        facts |= {"fits": True, "dtype": best.shards.dtype, "on_disk": best.shards.on_disk, "seconds": took}
        return JobSummary(headline, self.table(), facts)

    def _embedding_lines(self) -> list[str]:
        found = self.embedding
        if found is None:
            return []
        pace = "" if found.embed_rows is None else f", on all CPUs {_long(self.embed_s)}"
        return [
            f"to embed  {'' if found.is_exact else 'about '}{found.num_new:,} rows that were never seen{pace}; "
            f"{format_size(found.size)} to keep, in encoder.cache"
        ]

    def _row(self, tier: Tier) -> tuple[str, ...]:
        place = "GPUs" if tier.shards.num_gpus else "disk" if tier.shards.on_disk else "memory"
        disk = "-" if not tier.disk else format_size(tier.disk)
        disk += {True: ", fits", False: ", TOO LARGE", None: ", not known"}[tier.disk_holds] if tier.disk else ""
        low, high = (tier.seconds(passes, self._once_s) for passes in self.passes)
        return (
            tier.shards.dtype,
            place,
            str(tier.screening),
            str(tier.shards.num_shards),
            f"{format_size(tier.memory)}{', fits' if tier.fits else ', TOO LARGE'}",
            disk,
            _long(tier.load_s),
            _long(tier.pass_s),
            f"{_long(low)} to {_long(high)}",
        )

    def _assumptions(self) -> list[str]:
        rates, integers = self.rates, self.rates.integer_rows
        lines = [
            f"Measured here, just now: one process reads {rates.load_rows:,.0f} rows/s; "
            f"{plural(rates.num_threads, 'thread')} get through {rates.pass_rows:,.0f} rows/s of a pass in float32"
            f"{'' if integers is None else f', {integers:,.0f} in int8'}; the disk gives "
            f"{format_size(rates.disk_bytes)}/s; the driver takes {duration(rates.pick_s)} a pick.",
            "Assumed: a core there is as fast as one here, and a disk as this one, shared by the shards of a machine; "
            f"storage gives all machines at once what it gives one; Ray has {_RAYS_SHARE:.0%} of a machine's memory; "
            "as many passes as picks of such pools take as a rule, more among near-ties.",
        ]
        if self.embedding is not None and self.embedding.embed_rows is not None:
            lines.append(
                f"{plural(rates.num_threads, 'thread')} here embed {self.embedding.embed_rows:,.0f} rows/s; GPUs were "
                "not tried."
            )
        if self.machines.gpus:
            lines.append(f"GPUs read rows at {_GPU_BYTES_PER_S / 1e12:g} TB/s: assumed, and measured nowhere.")
        return lines


def plan_for_machines(
    machines: MachineSettings,
    dim: int,
    num_rows: int,
    num_picks: int,
    passes: tuple[int, int],
    cluster: ClusterSettings,
    storage: StorageOptions,
    rates: CoreRates,
) -> MachinePlan:
    """Plan for machines that are not at hand; the table has every way to keep rows, those that do not fit, too."""
    schedule = BlockSchedule().fit(dim, num_rows)
    tiers = [
        _tier(machines, dim, num_rows, dtype, replace(storage, storage=kept, screening=screening), cluster, rates)
        for dtype in _TYPES
        for kept, screening in (_KEPT if not machines.gpus else _KEPT[:2])
    ]
    return MachinePlan(
        machines=machines,
        num_rows=num_rows,
        dim=dim,
        num_picks=num_picks,
        passes=passes,
        tiers=tuple(tiers),
        driver_bytes=schedule.driver_bytes(dim, num_rows, _TYPES[0]) + 8 * dim * min(dim, num_picks),
        driver_s=num_picks * rates.pick_s,
        rates=rates,
    )


def _tier(
    machines: MachineSettings,
    dim: int,
    num_rows: int,
    dtype: str,
    storage: StorageOptions,
    cluster: ClusterSettings,
    rates: CoreRates,
) -> Tier:
    memory = parse_size("plan.memory", machines.memory) or 0
    gpu_memory = parse_size("plan.gpu_memory", machines.gpu_memory) or 0
    options = replace(cluster, gpus_per_shard=1.0 if machines.gpus else 0.0)
    if options.num_shards == 0:  # of this process: there is a cluster there
        options = replace(options, num_shards="auto")
    node = {"CPU": float(machines.cpus or 1), "memory": _RAYS_SHARE * memory, "GPU": float(machines.gpus)}
    unbounded = replace(storage, memory_per_shard=None, cache_limit=None)
    shards = plan_shards_for(num_rows, dim, dtype, [node] * machines.nodes, options, unbounded)
    rows, on_a_node = -(-num_rows // shards.num_shards), -(-shards.num_shards // machines.nodes)
    taken = on_a_node * (shards.memory(rows, dim) + PROCESS_BYTES)
    fits = taken <= _RAYS_SHARE * memory
    if machines.gpus:
        on_a_gpu = -(-on_a_node // machines.gpus)
        fits = fits and on_a_gpu * shards.footprint(rows, dim).gpu_bytes <= gpu_memory
    disk = on_a_node * storage.disk_bytes(rows, dim, dtype, shards.disk_copy_bytes) if shards.on_disk else 0
    free = parse_size("plan.disk", machines.disk)
    load_s, pass_s = _seconds(shards, rows, dim, on_a_node, disk, storage.screening, rates)
    holds = None if free is None else disk <= free
    return Tier(shards, storage.screening, taken, fits, disk, holds, load_s, pass_s)


def _seconds(
    shards: ShardPlan, rows: int, dim: int, on_a_node: int, disk: int, screening: Screening, rates: CoreRates
) -> tuple[float, float]:
    """Return the seconds of loading and of a pass, of the machine that has most to do."""
    footprint, written = shards.footprint(rows, dim), disk / rates.disk_bytes
    load_s = rows / rates.load_rows + written
    read = shards.copy_bytes * rows if shards.copy_bytes else footprint.feature_bytes
    if shards.num_gpus:
        return load_s, read / _GPU_BYTES_PER_S
    all_threads = rates.integer_rows if screening == "int8" and rates.integer_rows else rates.pass_rows
    computing = rows * rates.num_threads / (all_threads * shards.num_threads)
    from_disk = shards.on_disk and (not shards.copy_bytes or shards.copies_on_disk)
    return load_s, max(computing, on_a_node * read / rates.disk_bytes if from_disk else 0.0)


def planned_elsewhere(settings: CurationSettings, machines: MachineSettings) -> MachinePlan:
    """Plan the run of some settings for machines that are not at hand, and leave nothing behind.

    Raises:
        InputError, ConfigError: as the run itself would, but for what machines hold: that is in the table.
    """
    with temporary_folder("plan") if settings.pool.path is None else nullcontext(Path()) as folder:
        settings = digits_settings(settings, folder) if settings.pool.path is None else settings
        asked = settings.selection.n
        if machines.rows is not None:  # the pool at hand may have fewer rows than are to be picked
            settings = replace(settings, selection=replace(settings.selection, n=1))
        problem, settings, told = checked(settings)
        rows, storage = machines.rows or problem.source.num_rows, storage_options(problem, settings)
        if machines.rows is not None:
            settings = replace(settings, selection=replace(settings.selection, n=number_among(asked, rows)))
        embedding = survey_of(problem, tries_known=rows > problem.source.num_rows)
        folder, may_be_bad = ShardCache(storage.cache_folder).folder, settings.pool.on_bad_row == "skip"
        rates = measure_rates(problem, folder, may_be_bad, embedding)
        here = CoreRates(
            num_threads=torch.get_num_threads(),
            load_rows=rates.load_rows,
            pass_rows=rates.pass_rows,
            integer_rows=_integer_rate(problem.dim),
            disk_bytes=rates.disk_bytes or 1.0,
            pick_s=_pick_seconds(problem.dim, rows),
        )
        n, passes = settings.selection.n, expected_passes(settings)
        plan = plan_for_machines(machines, problem.dim, rows, n, passes, settings.cluster, storage, here)
        embedding = None if embedding is None else embedding.of(rows)
        return replace(plan, embedding=embedding, told=tuple(told), left=left_words(settings))


def _integer_rate(dim: int) -> float | None:
    """Measure the rows a second of a pass in int8, with three planes for each column; None where torch cannot."""
    rows = torch.ones(8192, dim, dtype=torch.int8)
    planes = torch.ones(dim, _PLANES * COLUMNS, dtype=torch.int8)
    try:
        return len(rows) / _best(lambda: multiply_integers(rows, planes))
    except (RuntimeError, AttributeError):
        return None


def _pick_seconds(dim: int, num_rows: int) -> float:
    """Measure the driver's work for a pick: a product of all candidates, at their most, with the pick's columns."""
    held = torch.ones(min(BlockSchedule().fit(dim, num_rows).max_candidates, num_rows), dim)
    columns = torch.ones(dim, 2)
    return _best(lambda: held @ columns)


def _best(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return max(best, 1e-9)


def _long(seconds: float) -> str:
    """Return seconds in the units of plans: 3.1 s, 12 min 5 s, 7 h 30 min, 2.5 days."""
    return duration(seconds) if seconds < 2 * _DAY_S else f"{seconds / _DAY_S:.1f} days"
