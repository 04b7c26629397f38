"""The few lines at the end of a run that say what happened and where the files are."""

from __future__ import annotations

from ray_itl.selection import Selection


def summarise(selection: Selection) -> str:
    """Return the summary of a selection."""
    metrics = selection.metrics
    seconds = sum(metrics["seconds"].values())
    lines = [
        "",
        f"picked {len(selection):,} of {metrics['num_rows']:,} rows for {metrics['num_targets']:,} targets: "
        f"{metrics['total_gain']:.4g} {selection.unit}, {selection.remaining_uncertainty[-1]:.1%} of the targets' "
        "uncertainty left",
        f"{metrics['passes']} passes over the pool, {seconds:.1f} s "
        f"({', '.join(f'{name} {value:.1f}' for name, value in metrics['seconds'].items())})",
    ]
    if metrics.get("next_gain") is not None:
        worth = f"{metrics['next_gain']:.4g} {selection.unit}"
        lines.append(f"stopped for selection.min_gain: the next pick would have added {worth}")
    for row in metrics.get("comparison", []):
        lines.append(
            f"  {row['rule']:>12}: {row['count']:,} picks on task ({row['share']:.0%}), "
            f"{row['remaining_uncertainty']:.1%} of target uncertainty left"
        )
    if selection.run_dir is not None:
        lines.append(f"results: {selection.run_dir}")
        if (selection.run_dir / "report.html").exists():
            lines.append(f"report:  {selection.run_dir / 'report.html'}")
    return "\n".join(lines)
