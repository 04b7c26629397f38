"""What a run would take on machines that are not at hand: hours, memory and disk, by storage and precision.

Speeds are those of this machine, a core here for a core there; what is assumed besides is said below the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_itl.curation.machine_settings import MachineSettings
from ray_itl.distributed.placement import ShardPlan
from ray_itl.embedding.survey import EmbeddingSurvey
from ray_itl.observability.console import JobSummary
from ray_itl.shards.footprint import Screening
from ray_itl.text import duration, format_size, plural

RAYS_SHARE = 0.7
"""Of a machine's memory: Ray keeps the rest for objects."""
GPU_BYTES_PER_S = 1e12
_DAY_S = 86400
_HEADS = ("rows in", "kept", "screened", "shards", "memory a machine", "disk a machine", "load", "pass", "in all")


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
            f"storage gives all machines at once what it gives one; Ray has {RAYS_SHARE:.0%} of a machine's memory; "
            "as many passes as picks of such pools take as a rule, more among near-ties.",
        ]
        if self.embedding is not None and self.embedding.embed_rows is not None:
            lines.append(
                f"{plural(rates.num_threads, 'thread')} here embed {self.embedding.embed_rows:,.0f} rows/s; GPUs were "
                "not tried."
            )
        if self.machines.gpus:
            lines.append(f"GPUs read rows at {GPU_BYTES_PER_S / 1e12:g} TB/s: assumed, and measured nowhere.")
        return lines


def _long(seconds: float) -> str:
    """Return seconds in the units of plans: 3.1 s, 12 min 5 s, 7 h 30 min, 2.5 days."""
    return duration(seconds) if seconds < 2 * _DAY_S else f"{seconds / _DAY_S:.1f} days"
