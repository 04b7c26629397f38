"""What a run says at its end: what happened, how far limits were used, what to beware of, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.core.result import GreedyResult
from ray_itl.curation.heldout import HELDOUT_FILE
from ray_itl.curation.likeness import floor_words
from ray_itl.curation.problem import Problem
from ray_itl.curation.pushing import note_in
from ray_itl.curation.whole_rows import CSV, FOLDER, LINES
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import plural_passes
from ray_itl.report.selection_charts import sensible_end
from ray_itl.runs.command import command_line
from ray_itl.selection import Selection
from ray_itl.sources.bad_rows import SKIPPED_FILE
from ray_itl.sources.schema import which_row
from ray_itl.text import percent, plural

_MAX_LINES = 10


def limits_used(problem: Problem, result: GreedyResult) -> list[dict[str, Any]]:
    """Return what a selection used (see `limits_used_by`)."""
    return limits_used_by(problem, [pick.cost for pick in result.picks], [pick.group for pick in result.picks])


def limits_used_by(problem: Problem, costs: Sequence[float], groups: Sequence[int]) -> list[dict[str, Any]]:
    """Return, for the budget and every bounded value of the quotas, what picks of these costs and groups use of it.

    Each entry has name, used, and min or max (absent where there is none); `unmet` is true for a missed minimum.
    """
    found: list[dict[str, Any]] = []
    limits = problem.limits
    if math.isfinite(limits.budget):
        found.append({"name": "budget", "used": math.fsum(costs), "max": limits.budget})
    if limits.quotas is None:
        return found
    quotas = replace(limits.quotas, picked=np.bincount(groups, minlength=len(limits.quotas.rows)))
    for quota, counts in zip(quotas.columns, quotas.counts, strict=True):
        for value, least, most, count in zip(quota.values, quota.least, quota.most, counts, strict=True):
            bounds = {"min": int(least)} if least else {}
            if most < problem.selection.n:
                bounds["max"] = int(most)
            if bounds:
                unmet = {"unmet": True} if count < least else {}
                found.append({"name": f"{quota.column}={value}", "used": int(count), **bounds, **unmet})
    return found


def limit_words(used: list[dict[str, Any]]) -> list[str]:
    """Return a line for the budget, every minimum, and every maximum that was reached; ten at most, the unmet first."""
    shown = [e for e in used if e["name"] == "budget" or "min" in e or e["used"] == e.get("max")]
    shown.sort(key=lambda entry: not entry.get("unmet", False))
    lines = []
    for entry in shown[:_MAX_LINES]:
        bounds = [f"{side} {entry[side]:,g}" for side in ("min", "max") if side in entry]
        missed = ": the minimum is not met, too few such rows could still be picked" if entry.get("unmet") else ""
        lines.append(f"{entry['name']}: {entry['used']:,g} ({', '.join(bounds)}){missed}")
    if len(shown) > _MAX_LINES:
        lines.append(
            f"and {len(shown) - _MAX_LINES:,} other limits that were reached or set a minimum: see metrics.json"
        )
    return lines


WHY_STOPPED = {
    "n": "as many as asked for",
    "min_gain": "the next pick would add {next_gain:.4g} {unit}, less than selection.min_gain",
    "share": "selection.share is reached: enough of what the pool could teach is learnt",
    "no_rows": "no further row may be picked",
    "nothing_new": "no new rows",
}
"""The words for every reason to stop, of selections (`core.result.Stop`) and of ticks (`ticks.history.Stop`)."""


def why_stopped(stop: str, next_gain: float | None = None, unit: str = "") -> str:
    """Say why a selection or a tick ended; `next_gain` and `unit` are those of `min_gain`."""
    return WHY_STOPPED[stop].format(next_gain=next_gain or 0.0, unit=unit)


def heldout_words(count: int, num_heldout: int) -> str:
    """Say how many rows of the pool are excluded since they are nearly equal to one of some held-out rows."""
    return f"{plural(count, 'row')} of the pool nearly equal to one of {plural(num_heldout, 'held-out row')}: excluded"


def summarise(selection: Selection) -> JobSummary:
    """Return the ending of a selection."""
    metrics = selection.metrics
    left = float(selection.remaining_uncertainty[-1])
    skipped = metrics.get("skipped_rows", 0)
    passed_over = f" ({skipped:,} that cannot be used passed over)" if skipped else ""
    headline = (
        f"picked {len(selection):,} of {metrics['num_rows']:,} rows{passed_over} for {metrics['num_targets']:,} "
        "targets: "
        f"{metrics['total_gain']:.4g} {selection.unit}, {left:.1%} of the targets' uncertainty left"
    )
    facts = {
        "picked": len(selection),
        "of": metrics["num_rows"],
        "skipped": skipped,
        **({"heldout": metrics["heldout_rows"]} if "heldout_rows" in metrics else {}),
        "gain": metrics["total_gain"],
        "unit": selection.unit,
        "uncertainty_left": left,
        "passes": metrics["passes"],
        "seconds": metrics["seconds"],
        "next_gain": metrics.get("next_gain"),
        "stop": metrics.get("stop"),
        "would_do": end.picks if (end := sensible_end(selection.gains)) else None,
        "limits": metrics.get("limits", []),
        **{name: metrics[name] for name in ("min_similarity", "target_similarity", "repeats") if name in metrics},
        "tasks": metrics.get("tasks", []),
        "comparison": metrics.get("comparison", []),
    }
    return JobSummary(headline, "\n".join([*_figures(selection), *_places(selection)]), facts, _paths(selection))


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
    if (end := sensible_end(selection.gains)) is not None:
        lines.append(
            f"{plural(end.picks, 'pick')} would do: {percent(end.share)} of the gain, and each pick after them adds "
            "less than a tenth of what they did on average"
        )
    if "heldout_rows" in metrics:
        lines.append(heldout_words(metrics["heldout_rows"], metrics["num_heldout"]))
    if "min_similarity" in metrics:
        lines.append(floor_words(metrics["min_similarity"]))
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
    paths = _paths(selection)
    lines += [
        f"{name + ':':<9}{paths[name]}" for name in ("rows", "report", "skipped", "heldout", "pushed") if name in paths
    ]
    check = command_line("verify", f"run.dir={selection.run_dir}")
    what = Path(paths["rows"]).name if "rows" in paths else "the rows named in selection.parquet"
    return [*lines, f"next:    train on {what}; to check them: {check}"]


def _paths(selection: Selection) -> dict[str, str]:
    """Return where the files of a run are: its folder, the picks, and the report where there is one."""
    folder = selection.run_dir
    if folder is None:
        return {}
    files = {
        "selection": "selection.parquet",
        "report": "report.html",
        "skipped": SKIPPED_FILE,
        "heldout": HELDOUT_FILE,
    }
    files["rows"] = next((name for name in (LINES, FOLDER) if (folder / name).exists()), CSV)
    found = {name: str(folder / file) for name, file in files.items() if (folder / file).exists()}
    note = note_in(folder)
    pushed = {} if note is None or note.address is None else {"pushed": note.address}
    return {"results": str(folder), **found, **pushed}


def _skipped_words(skipped: pa.Table) -> str:
    first = skipped.slice(0, 1).to_pylist()[0]
    where = which_row(first["file"], first["row"])
    return (
        f"{plural(len(skipped), 'row')} of the pool cannot be used and were passed over, listed in {SKIPPED_FILE}; the "
        f"first: {where}, {first['reason']}."
    )


def noise_drowns_rows(noise_variance: float, mean_squared_norm: float) -> str | None:
    """Return a sentence where the noise is more than a thousand times what rows are of, else None."""
    if noise_variance <= 1e3 * mean_squared_norm or not mean_squared_norm:
        return None
    return (
        f"The noise variance ({noise_variance:g}) is {noise_variance / mean_squared_norm:.0f} times the mean squared "
        f"norm of the pool's rows ({mean_squared_norm:g}): no pick says much, and a copy as much again. Leave out "
        "acquisition.noise_variance, or set acquisition.relative_noise."
    )


def unsettled_words(count: int) -> str:
    """Return how many files were passed over, and why."""
    return f"{plural(count, 'file')} of the pool that changed less than pool.settle_s ago"


def warnings_about(selection: Selection) -> list[str]:
    """Return a sentence for everything about the picks that may not be as meant."""
    warnings = [*selection.metrics.get("notes", [])]
    warnings += [words for words in limit_words(selection.metrics["limits"]) if "not met" in words]
    noise, norm = selection.metrics.get("noise_variance"), selection.metrics.get("mean_squared_norm")
    drowned = noise_drowns_rows(noise, norm) if noise and norm else None
    warnings += [] if drowned is None else [drowned]
    if unsettled := selection.metrics.get("unsettled_files", 0):
        warnings.append(f"{unsettled_words(unsettled)} were passed over: run it again later to have their rows, too.")
    if selection.skipped is not None:
        warnings.append(_skipped_words(selection.skipped))
    if "near_target" in selection.table.column_names:
        near = int(np.count_nonzero(selection.table.column("near_target").to_numpy()))
        if near:
            warnings.append(
                f"{near:,} of {len(selection):,} picks are nearly equal to a target (column near_target): if the "
                "targets are to be tested on, set selection.near_target=exclude."
            )
    gains = selection.gains
    if len(gains) and gains.min() < 0:
        first = int(np.argmax(gains < 0)) + 1
        warnings.append(
            f"Pick {first:,} and {np.count_nonzero(gains < 0) - 1:,} others say more about the rows to avoid than "
            "about the targets: a small selection.min_gain would have ended the run before them."
        )
    elif len(gains) > 1 and gains[-1] < 1e-3 * gains[0]:
        small = int(np.argmax(gains < 1e-3 * gains[0])) + 1
        warnings.append(
            f"From pick {small:,} on, a pick is worth less than a thousandth of the first: fewer rows would do, or a "
            "smaller noise variance would tell them apart."
        )
    left = selection.remaining_uncertainty
    if len(gains) and left[-1] > 0.99 * left[0] and drowned is None:
        warnings.append(
            "The picks remove less than 1% of the targets' uncertainty: the pool may not cover the task, or a smaller "
            "acquisition.relative_noise would tell more."
        )
    return warnings
