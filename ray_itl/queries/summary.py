"""What a selection for many queries says at its end, and before it begins."""

from __future__ import annotations

from dataclasses import replace

from ray_itl.curation.inputs import FROM_OPTIONS
from ray_itl.curation.planning import RunPlan, checked, planned
from ray_itl.curation.settings import CurationSettings
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import plural_passes
from ray_itl.queries.checks import check_options
from ray_itl.queries.reading import read_queries
from ray_itl.queries.run import QuerySelection

_PASSES = (1, 4)
"""Over all rows, of each query."""
_PICKS = 16
"""Of one query, whose passes a plan counts."""


def summarise_queries(selection: QuerySelection) -> JobSummary:
    """Return the ending of a selection for many queries."""
    metrics, seconds = selection.metrics, selection.metrics["seconds"]
    headline = (
        f"picked {metrics['num_picks']:,} of {metrics['num_rows']:,} rows for {metrics['num_queries']:,} queries: "
        f"{metrics['mean_gain']:.4g} {selection.unit} each in the mean"
    )
    lines = [
        f"{plural_passes(metrics['passes'])} over the pool, {sum(seconds.values()):.1f} s "
        f"({', '.join(f'{name} {value:.1f}' for name, value in seconds.items())})"
    ]
    if "picks_certain" in metrics:
        lines.append(
            f"only the nearest rows of each query were looked at: {metrics['picks_certain']:,} picks gain more than "
            "any other row could have (column bound)"
        )
    if metrics.get("queries_short"):
        lines.append(
            f"{metrics['queries_short']:,} queries have fewer picks than asked for: no further row has the cosine to a "
            "target of theirs that selection.min_similarity asks for"
        )
    if metrics["queries_alone"]:
        lines.append(f"{metrics['queries_alone']:,} queries were selected for one by one")
    paths = {}
    if selection.run_dir is not None:
        lines.append(f"results: {selection.run_dir}")
        paths["results"] = str(selection.run_dir)
        rows = selection.run_dir / "selection.jsonl"
        if rows.exists():
            paths["rows"] = str(rows)
            lines.append(f"rows:    {rows}")
    return JobSummary(headline, "\n".join(lines), metrics, paths)


def plan_queries(settings: CurationSettings) -> RunPlan:
    """Plan a selection for many queries; its passes are counted as such of 16 picks of one query.

    Raises:
        InputError, ConfigError: as the run itself would, also where it cannot fit.
    """
    check_options(settings)
    for_all = replace(
        settings,
        target=replace(settings.target, query_column=None),
        selection=replace(settings.selection, nearest=None),
    )
    problem, chosen, _ = checked(for_all)
    queries, n = read_queries(problem, settings, FROM_OPTIONS), chosen.selection.n
    each = (
        (1, 1)
        if settings.selection.nearest is not None
        else tuple(max(1, -(-count * n // _PICKS)) for count in _PASSES)
    )
    floors = 0 if settings.selection.min_similarity is None else 1
    each = each[0] + floors, each[1] + floors
    told = f"{len(queries):,} queries of {n:,} picks, counted as passes of {_PICKS} picks of one"
    plan = planned(for_all)
    return replace(plan, passes=(each[0] * len(queries), each[1] * len(queries)), told=(*plan.told, told))
