"""The passes of the engine on a CUDA device, beside the device's own copy and matrix products in the same run.

Bytes are those of the rows as they are stored, read once, and operations those of the products that a pass cannot do
without: a pass that reads a smaller copy of the rows may so exceed what the device's copy reads.
"""

from __future__ import annotations

import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.clocked_pool import PROPOSALS, START, VERIFICATION, Clock, ClockedShard, clocked
from benchmarks.data import ClusteredRows
from benchmarks.products import Products, settle
from benchmarks.settings import GpuSettings
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.result import GreedyResult
from ray_itl.errors import ConfigError
from ray_itl.experiments.cache import Notify

_SCORE_BYTES = 8


class Synchronisations:
    """How often this process waits for a CUDA device, by kind of call; nothing where the device is another one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.counts: dict[str, int] = defaultdict(int)

    @contextmanager
    def watch(self, kind: str) -> Iterator[None]:
        """Count what waits within, each for the innermost kind."""
        if self._device.type != "cuda":
            yield
            return
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode(before)
        self.counts[kind] += sum("synchroniz" in str(each.message) for each in said)


@dataclass(frozen=True)
class Rate:
    """Something that was timed on the device."""

    name: str
    seconds: float
    """Of one pass, product or copy."""
    num_bytes: float
    flop: float
    waits: float = float("nan")
    """How often the process waited for the device in one pass."""


@dataclass(frozen=True)
class GpuResult:
    """What the device does, and what the engine does on it."""

    device: str
    passes: int
    precision: str
    """In which rows were screened at the end."""
    columns: int
    """Of the products: those of the largest block."""
    bare: list[Rate]
    engine: list[Rate]

    def share(self, what: Callable[[Rate], float], name: str) -> float:
        """Return a figure of the verify pass as a multiple of the device's own."""
        verify = next(rate for rate in self.engine if rate.name == VERIFICATION)
        return what(verify) / what(next(rate for rate in self.bare if rate.name == name))


def cuda_or_cpu(name: str) -> torch.device:
    """Return a device that is there.

    Raises:
        ConfigError: it is not, or is neither a CUDA device nor the CPU; names gpu.device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "cpu"):
        raise ConfigError(f"gpu.device={name!r} cannot be used: give cuda, cuda:1 or cpu")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        raise ConfigError(f"gpu.device={name} cannot be used: torch {torch.__version__} sees {found} CUDA devices here")
    return device


def run_gpu(settings: GpuSettings, seed: int, notify: Notify) -> GpuResult:
    """Measure the device, then the engine on it.

    Raises:
        ConfigError: there is no such device.
    """
    device = cuda_or_cpu(settings.device)
    rows = ClusteredRows(settings.dim, seed)
    notify(f"drawing {settings.num_rows:,} x {settings.dim} rows")
    features = rows.pool_tensor(settings.num_rows).to(device)
    targets = Targets.uniform(rows.targets(settings.num_targets))
    notify("passes of the engine")
    first = _select(settings, features, targets, Clock())  # kernels are loaded, and memory is taken, by first calls
    waits = Synchronisations(device)
    _select(settings, features, targets, Clock(watch=waits.watch))
    clocks = [Clock(settle=lambda: settle(device)) for _ in range(settings.repeats)]
    for clock in clocks:
        _select(settings, features, targets, clock)
    notify("copies and bare products")
    columns = [InformationGain(1.0).num_tracks * size for size, _ in first.stats.blocks]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    return GpuResult(
        name,
        first.stats.passes,
        first.stats.precision,
        max(columns),
        _bare(features, max(columns), settings.repeats),
        _engine(settings, features, statistics.mean(columns), clocks, waits),
    )


def _select(settings: GpuSettings, features: Tensor, targets: Targets, clock: Clock) -> GreedyResult:
    shard = ClockedShard(MemoryFeatures(features), np.arange(len(features)), 0)
    shard.clock = clock
    rule = InformationGain(settings.noise_variance)
    state = rule.start(Posterior.prior(settings.dim), targets)
    return GreedySelector(clocked(LocalPool([shard]), clock), rule, state).select(settings.n)


def _bare(features: Tensor, columns: int, repeats: int) -> list[Rate]:
    products, stored = Products(features), features.numel() * features.element_size()
    rates = [Rate("copy", products.copy_seconds(repeats), 2 * stored, 0.0)]
    sizes = {"bfloat16": 2, "int8": 1}
    for kind in products.kinds:
        num_bytes = features.numel() * sizes.get(kind, features.element_size())
        rates.append(Rate(kind, products.seconds(kind, columns, repeats), num_bytes, products.flop(columns)))
    return rates


def _engine(
    settings: GpuSettings, features: Tensor, columns: float, clocks: list[Clock], waits: Synchronisations
) -> list[Rate]:
    stored, scores = features.numel() * features.element_size(), 2 * _SCORE_BYTES * len(features)
    needs = {
        START: (stored, 2.0 * features.numel() * settings.num_targets),
        VERIFICATION: (stored, 2.0 * features.numel() * columns),
        PROPOSALS: (scores, 0.0),
    }
    rates = []
    for kind, (num_bytes, flop) in needs.items():
        calls = clocks[0].calls[kind]
        seconds = statistics.median(clock.seconds[kind] for clock in clocks) / calls
        rates.append(Rate(kind, seconds, num_bytes, flop, waits.counts[kind] / calls))
    return rates


def gpu_table(result: GpuResult, settings: GpuSettings) -> str:
    """Return the figures as a Markdown table, and the verify pass beside the device in words."""
    intro = (
        f"On {result.device}: {settings.num_rows:,} x {settings.dim} float32, {settings.num_targets} targets, n = "
        f"{settings.n:,}, {result.passes} passes screened in {result.precision}, bare products of {result.columns} "
        f"columns; medians of {settings.repeats}."
    )
    lines = ["| of one | ms | GB/s | Gflop/s | waits for the device |", "|---|---|---|---|---|"]
    for rate in (*result.bare, *result.engine):
        own = f"{rate.waits:.1f}" if rate in result.engine else "-"
        flop = f"{rate.flop / rate.seconds / 1e9:,.0f}" if rate.flop else "-"
        lines.append(
            f"| {rate.name} | {1000 * rate.seconds:.3g} | {rate.num_bytes / rate.seconds / 1e9:,.0f} | {flop} | {own} |"
        )
    shares = [
        f"{result.share(lambda rate: rate.flop / rate.seconds, rate.name):.2f} of {rate.name} products"
        for rate in result.bare
        if rate.flop
    ]
    read = result.share(lambda rate: rate.num_bytes / rate.seconds, "copy")
    words = (
        f"A verify pass does {', '.join(shares)} in operations a second, and {read:.2f} of the copy in bytes a second."
    )
    return "\n\n".join([intro, "\n".join(lines), words])
