"""Charts of groups: the values of a column in the picks and in the pool, and the uncertainty left over the targets."""

from __future__ import annotations

import numpy as np

from ray_itl.report.figures import Chart, empty_figure, label
from ray_itl.report.selection_data import Mix, TargetsLeft
from ray_itl.text import clip, percent, plain, plural

NAMED_TARGETS = 15
_BINS = 20


def mix_chart(mix: Mix, number: int) -> Chart:
    """Draw shares of a column's values in picks and pool, as pairs of bars; `number` tells charts apart.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    figure = empty_figure()
    # Bars are drawn from the bottom up and their names read from the top down.
    for name, role, shares in (("picks", "bar", mix.in_picks), ("pool", "pool", mix.in_pool)):
        figure.add_bar(
            x=list(shares),
            y=list(range(len(shares))),
            orientation="h",
            name=name,
            meta=role,
            marker={"line": {"width": 0}},
            text=[f"{label(v, 60)}: {percent(s)} of the {name}" for v, s in zip(mix.values, shares, strict=True)],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(
        xaxis={"tickformat": ".0%", "rangemode": "tozero", "nticks": 6},
        yaxis=_names([label(value, 20) for value in mix.values]),
        bargap=0.3,
        showlegend=True,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    spoken = ", ".join(
        f"{plain(value)} {percent(picked)} of the picks and {percent(pooled)} of the pool"
        for value, picked, pooled in zip(mix.values, mix.in_picks, mix.in_pool, strict=True)
    )
    return Chart(
        f"mix-{number}",
        f"{clip(plain(mix.column), 40)}: picks against pool",
        f"Share of the picks and of the pool with each value; the pool's from {plural(mix.sampled, 'row')} of it.",
        f"Bars: {clip(spoken, 400)}.",
        figure,
    )


def targets_chart(targets: TargetsLeft) -> Chart:
    """Draw the uncertainty left of every target, or, of many, how it is spread over them.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    if len(targets.left) <= NAMED_TARGETS:
        return _each_target(targets)
    left = np.asarray(targets.left, dtype=np.float64)
    top = max(float(left.max()), 1e-12)
    counts, edges = np.histogram(left, bins=_BINS, range=(0.0, top))
    figure = empty_figure()
    figure.add_bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts.tolist(),
        width=np.diff(edges),
        meta="bar",
        text=[
            f"{plural(int(c), 'target')} with {percent(a)} to {percent(b)} left"
            for c, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
        ],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_layout(
        bargap=0.08,
        xaxis={"title": "uncertainty left", "tickformat": ".3~%", "nticks": 6, "zeroline": False},
        # Of few targets plotly would number halves, too.
        yaxis={"title": "targets", "rangemode": "tozero", "tickformat": ",~d"}
        | ({"dtick": 1} if counts.max() < 6 else {}),
    )
    half, most = percent(float(np.median(left))), percent(float(left.max()))
    return Chart(
        "targets",
        "Uncertainty left per target",
        f"How much of their own variance is left of the targets: {half} of the middle one, {most} of the worst. "
        "Targets at the right are those that the picks say least about.",
        f"A histogram of {plural(len(left), 'target')} over their uncertainty left, at most {most}.",
        figure,
    )


def _each_target(targets: TargetsLeft) -> Chart:
    worst = [(targets.name(place), float(targets.left[place])) for place in targets.worst(NAMED_TARGETS)]
    names = [label(name, 20) for name, _ in worst]
    figure = empty_figure()
    figure.add_bar(
        x=[share for _, share in worst],
        y=list(range(len(worst))),
        orientation="h",
        meta="bar",
        text=[f"{label(name, 60)}: {percent(share)} left" for name, share in worst],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_layout(
        xaxis={"title": "uncertainty left", "tickformat": ".3~%", "rangemode": "tozero", "nticks": 6},
        yaxis=_names(names),
        bargap=0.3,
    )
    spoken = ", ".join(f"{plain(name)} {percent(share)}" for name, share in worst)
    return Chart(
        "targets",
        "Uncertainty left per target",
        "How much of its own variance is left of each target, the one that the picks say least about first.",
        f"Bars: {clip(spoken, 400)}.",
        figure,
    )


def _names(names: list[str]) -> dict[str, object]:
    """Return an axis that names bars at positions from the top: plotly would merge two whose names clip alike."""
    return {
        "autorange": "reversed",
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
    }
