"""What a run says at its end: what happened, where the files are, and what to do next."""

from __future__ import annotations

import shlex

from ray_itl.limits_report import limit_words
from ray_itl.progress import plural_passes
from ray_itl.selection import Selection
from ray_itl.telling.event import Ending

WHY_STOPPED = {
    "n": "as many as asked for",
    "min_gain": "the next pick would add {next_gain:.4g} {unit}, less than selection.min_gain",
    "share": "selection.share is reached: enough of what the pool could teach is learnt",
    "no_rows": "no further row may be picked",
    "nothing_new": "no new rows",
}
"""The words for every reason to stop, of selections (`core.result.Stop`) and of ticks (`ticks.record.Stop`)."""


def why_stopped(stop: str, next_gain: float | None = None, unit: str = "") -> str:
    """Say why a selection or a tick ended; `next_gain` and `unit` are those of `min_gain`."""
    return WHY_STOPPED[stop].format(next_gain=next_gain or 0.0, unit=unit)


def summarise(selection: Selection) -> Ending:
    """Return the ending of a selection."""
    metrics = selection.metrics
    left = float(selection.remaining_uncertainty[-1])
    headline = (
        f"picked {len(selection):,} of {metrics['num_rows']:,} rows for {metrics['num_targets']:,} targets: "
        f"{metrics['total_gain']:.4g} {selection.unit}, {left:.1%} of the targets' uncertainty left"
    )
    facts = {
        "picked": len(selection),
        "of": metrics["num_rows"],
        "gain": metrics["total_gain"],
        "unit": selection.unit,
        "uncertainty_left": left,
        "passes": metrics["passes"],
        "seconds": metrics["seconds"],
        "next_gain": metrics.get("next_gain"),
        "stop": metrics.get("stop"),
        "limits": metrics.get("limits", []),
        "tasks": metrics.get("tasks", []),
        "comparison": metrics.get("comparison", []),
    }
    return Ending(headline, "\n".join([*_figures(selection), *_places(selection)]), facts, _paths(selection))


def _figures(selection: Selection) -> list[str]:
    metrics = selection.metrics
    seconds = metrics["seconds"]
    lines = [
        f"{plural_passes(metrics['passes'])} over the pool, {sum(seconds.values()):.1f} s "
        f"({', '.join(f'{name} {value:.1f}' for name, value in seconds.items())})"
    ]
    stop = metrics.get("stop", "n")
    if stop != "n":
        lines.append(f"stopped: {why_stopped(stop, metrics.get('next_gain'), selection.unit)}")
    lines += limit_words(metrics.get("limits", []))
    lines += [
        f"task {task['name']}: {task['uncertainty_left']:.1%} of its uncertainty left ({task['targets']:,} targets)"
        for task in metrics.get("tasks", [])
    ]
    lines += [
        f"  {row['rule']:>12}: {row['count']:,} picks on task ({row['share']:.0%}), "
        f"{row['remaining_uncertainty']:.1%} of target uncertainty left"
        for row in metrics.get("comparison", [])
    ]
    return lines


def _places(selection: Selection) -> list[str]:
    if selection.run_dir is None:
        return []
    lines = [f"results: {selection.run_dir}"]
    lines += [f"report:  {path}" for name, path in _paths(selection).items() if name == "report"]
    check = shlex.join(["python", "jobs/verify.py", f"run.dir={selection.run_dir}"])
    return [*lines, f"next:    train on the rows named in selection.parquet; to check them: {check}"]


def _paths(selection: Selection) -> dict[str, str]:
    """Return where the files of a run are: its folder, the picks, and the report where there is one."""
    folder = selection.run_dir
    if folder is None:
        return {}
    files = {"selection": "selection.parquet", "report": "report.html"}
    found = {name: str(folder / file) for name, file in files.items() if (folder / file).exists()}
    return {"results": str(folder), **found}
