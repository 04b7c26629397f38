"""The figures of a comparison as Markdown tables, and in words where somebody else is ahead."""

from __future__ import annotations

from collections.abc import Callable

from ray_itl.benchmark.comparison import Comparison, Measurement
from ray_itl.benchmark.peers.ours import ITL, NOISELESS, VTL
from ray_itl.benchmark.peers.plain import RANDOM
from ray_itl.benchmark.peers.registry import PEERS
from ray_itl.benchmark.settings import PeersSettings
from ray_itl.io.sizes import format_size

_OURS = (ITL, NOISELESS, VTL)
_CLOSE = 1e-3
"""Shares below which two objectives count as equal."""


def comparison_tables(comparisons: list[Comparison], settings: PeersSettings) -> str:
    """Return the figures of all data sets."""
    packages = sorted({PEERS[name].package for c in comparisons for name in c.peers} - {""})
    versions = {peer.package: peer.version() for peer in PEERS.values()}
    threads = settings.num_threads or "as many as cores"
    intro = [
        f"Peers: n = {settings.n:,} picks, {settings.num_targets} targets, noise variance {settings.noise_variance:g}, "
        f"float32 rows of norm 1; threads: {threads}; at most {settings.time_limit_s:g} s for a selection and "
        f"{settings.memory_limit} for a process, which first selects from few rows, uncounted"
        + (f"; {', '.join(f'{package} {versions[package]}' for package in packages)}." if packages else "."),
        "",
        *(f"- {name}: {PEERS[name].how}" for name in dict.fromkeys(name for c in comparisons for name in c.peers)),
    ]
    return "\n\n".join(["\n".join(intro), *(_tables(c) for c in comparisons)])


def _tables(comparison: Comparison) -> str:
    cells = {
        "seconds, from rows in memory to picks (medians)": _seconds,
        "peak memory beside the pool": lambda m, _: format_size(m.extra_bytes),
        "I(f_A; y_X) in nats (more is better)": _nats,
        "share of the targets' variance left (less is better)": lambda m, _: f"{_variance(m):.2%}",
    }
    parts = [f"### {comparison.matrices.words}"]
    parts += [_table(comparison, what, cell) for what, cell in cells.items()]
    return "\n\n".join([*parts, "\n".join(_ahead(comparison))])


def _table(comparison: Comparison, what: str, cell: Callable[[Measurement, Measurement | None], str]) -> str:
    sizes = comparison.num_rows
    lines = [f"| {what} | " + " | ".join(f"N = {size:,}" for size in sizes) + " |", "|---|" + "---|" * len(sizes)]
    for name in comparison.peers:
        row = [comparison.measurements[name, size] for size in sizes]
        ours = [comparison.measurements.get((ITL, size)) for size in sizes]
        cells = [m.stopped or cell(m, own) for m, own in zip(row, ours, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seconds(measured: Measurement, ours: Measurement | None) -> str:
    text = f"{measured.seconds:.2g}" if measured.seconds < 1 else f"{measured.seconds:.3g}"
    if ours is None or ours.stopped or measured.peer in _OURS:
        return text
    return f"{text} ({measured.seconds / ours.seconds:.2g}x)"


def _nats(measured: Measurement, ours: Measurement | None) -> str:
    del ours
    repeated = "" if measured.num_distinct == measured.num_picks else f" ({measured.num_distinct} different rows)"
    return f"{_information(measured):.3f}{repeated}"


def _information(measured: Measurement) -> float:
    assert measured.worth is not None
    return measured.worth.nats


def _variance(measured: Measurement) -> float:
    assert measured.worth is not None
    return measured.worth.variance_left


def _ahead(comparison: Comparison) -> list[str]:
    """Say, for each size, which peers are faster or smaller than all of ours, or reach more than the best of ours."""
    return [
        f"Ahead of every rule of ray_itl at N = {size:,}: {_winners(comparison, size)}." for size in comparison.num_rows
    ]


def _winners(comparison: Comparison, size: int) -> str:
    done = [m for name in comparison.peers if not (m := comparison.measurements[name, size]).stopped]
    ours, others = [m for m in done if m.peer in _OURS], [m for m in done if m.peer not in (*_OURS, RANDOM)]
    if not ours:
        return "not compared"
    found = {
        "seconds": [m for m in others if m.seconds < min(o.seconds for o in ours)],
        "memory": [m for m in others if m.extra_bytes < min(o.extra_bytes for o in ours)],
        "nats": [m for m in others if _information(m) > max(map(_information, ours)) * (1 + _CLOSE)],
        "variance": [m for m in others if _variance(m) < min(map(_variance, ours)) * (1 - _CLOSE)],
    }
    said = [f"in {what} {', '.join(m.peer for m in winners)}" for what, winners in found.items() if winners]
    return "; ".join(said) or "none"
