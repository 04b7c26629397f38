"""What a comparison found: Markdown tables, words on where somebody else is ahead, and a page of charts."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.comparison import Comparison, Measurement
from benchmarks.curves_page import CurvesChart, CurvesReport, render_curves
from benchmarks.peers import ITL, NOISELESS, PEERS, RANDOM, VTL
from benchmarks.settings import PeersSettings
from ray_itl.text import format_size

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


def render_comparison(comparisons: list[Comparison], settings: PeersSettings, machine: str) -> str:
    """Return the page of charts; a curve ends where a peer stops.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    charts = [chart for comparison in comparisons for chart in _charts(comparison)]
    largest = max(size for comparison in comparisons for size in comparison.num_rows)
    report = CurvesReport(
        title="ray_itl beside its peers",
        headline=f"What {settings.n:,} picks cost, and what they are worth, from pools of up to {largest:,} rows.",
        charts=charts,
        facts={
            "Machine": machine,
            "Targets": settings.num_targets,
            "Noise variance": settings.noise_variance,
            "Time limit": f"{settings.time_limit_s:g} s",
            "Memory limit": settings.memory_limit,
        },
    )
    return render_curves(report)


def _charts(comparison: Comparison) -> list[CurvesChart]:
    what = comparison.matrices.words
    return [
        _chart(comparison, f"Seconds: {what}", "seconds", lambda m: m.seconds),
        _chart(comparison, f"Memory: {what}", "MiB beside the pool", lambda m: max(m.extra_bytes, 1) / 2**20),
        _chart(comparison, f"Information: {what}", "nats", lambda m: m.worth.nats if m.worth else 0.0, linear=True),
        _chart(
            comparison,
            f"Uncertainty left: {what}",
            "share of the targets' variance",
            lambda m: m.worth.variance_left if m.worth else 0.0,
            linear=True,
        ),
    ]


def _chart(
    comparison: Comparison, heading: str, y_title: str, value: Callable[[Measurement], float], linear: bool = False
) -> CurvesChart:
    curves = {}
    for name in comparison.peers:
        if name == RANDOM and not linear:  # costs next to nothing, and would squeeze the others together
            continue
        done = [m for size in comparison.num_rows if not (m := comparison.measurements[name, size]).stopped]
        if done:
            curves[name] = ([m.num_rows for m in done], [value(m) for m in done])
    caption = "A curve ends where the peer ran out of time or memory."
    return CurvesChart(heading, caption, "rows in the pool", y_title, curves, linear_y=linear)
