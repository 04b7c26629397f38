"""The page of a selection: headline, key figures, how far limits were used, charts, facts and the table of picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ray_itl.report.document import Tile, assemble
from ray_itl.report.figures import load_library
from ray_itl.report.mix_charts import NAMED_TARGETS
from ray_itl.report.selection_charts import make_charts
from ray_itl.report.selection_data import ReportData, Use
from ray_itl.report.table import table_text, thumbnails
from ray_itl.text import amount, clip, duration, number, percent, plain, plural

FIRST_USES = 12
MAX_USES = 300
_WORST_TARGETS = 10
_UNCERTAINTY = "the targets' prior uncertainty"


class ShownUse(NamedTuple):
    """A limit in words, and its bar: how far it is filled and where the minimum stands, "" for none."""

    name: str
    used: str
    allowed: str
    verdict: str
    is_unmet: bool
    width: str
    minimum: str


class ShownUses(NamedTuple):
    """The limits in the order of the page: some at once, others once they are asked for, and how many not at all."""

    first: list[ShownUse]
    others: list[ShownUse]
    num_left_out: int
    num_unmet: int


def render(data: ReportData) -> str:
    """Return the report as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own two scripts run.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    values = {
        "title": data.title,
        "headline": headline(data),
        "warnings": [plain(warning) for warning in data.warnings],
        "tiles": tiles(data),
        "comparison": [
            {
                "name": clip(plain(row.name), 60),
                "left": percent(row.remaining_uncertainty),
                "wanted": f"{row.wanted:,}",
                "share": percent(row.share),
                "width": f"{row.share:.1%}",
            }
            for row in data.comparison
        ],
        "comparison_caption": data.comparison_caption,
        "uses": shown_uses(data.uses),
        "worst_targets": _worst_targets(data),
        "facts": facts(data),
        "table": load_library("markupsafe").Markup(table_text(data)),
    }
    return assemble(
        "selection.html.j2",
        make_charts(data),
        values,
        styles=["page.css"],
        scripts=["charts.js", "picks.js"],
    )


def headline(data: ReportData) -> str:
    """Return one sentence: what was picked, from what, with how much information, and what uncertainty is left."""
    total = float(data.cumulative_gains[-1])
    gained = number(total) + (" nats of information" if data.gain_unit == "nats" else " less variance")
    left = percent(float(data.remaining_uncertainty[-1]))
    asked = f" ({data.num_asked:,} were asked for)" if data.num_asked != data.num_picks else ""
    picked = f"{plural(data.num_picks, 'row')}{asked} picked from {data.num_pool:,}"
    about = f"about {plural(data.num_targets, 'target')}"
    end = f"with {left} of {_UNCERTAINTY} left."
    if not data.is_directed:
        return f"{picked} by {clip(plain(data.acquisition), 40)}: {gained} {about}, {end}"
    each, given = ("each", " given the picks before it") if data.num_picks > 1 else ("the one", "")
    return f"{picked}, {each} most informative {about}{given}: {gained}, {end}"


def tiles(data: ReportData) -> list[Tile]:
    """Return the key figures, most important first."""
    cumulative = data.cumulative_gains
    total = float(cumulative[-1])
    half = int((cumulative < total / 2).sum()) + 1
    label = "Information gained" if data.gain_unit == "nats" else "Variance removed"
    note = f"half of it from the first {plural(half, 'pick')}" if data.num_picks > 1 else ""
    asked = "" if data.num_asked == data.num_picks else f"of {data.num_asked:,} asked for"
    passes = "" if data.num_passes is None else f"in {data.num_passes:,} pass{'es' * (data.num_passes != 1)}"
    picked = f"{percent(data.num_picks / max(data.num_pool, 1))} picked"
    return [
        Tile("Rows picked", f"{data.num_picks:,}", asked),
        Tile(label, amount(total, data.gain_unit) if data.gain_unit == "nats" else number(total), note),
        Tile("Uncertainty left", percent(float(data.remaining_uncertainty[-1])), ""),
        Tile("Rows in the pool", f"{data.num_pool:,}", picked),
        Tile("Targets", f"{data.num_targets:,}", ""),
        Tile("Time", duration(data.seconds), passes),
    ]


def facts(data: ReportData) -> dict[str, str]:
    """Return every fact of the run, label to text; `data.facts` follow the ones all runs have."""
    shared: dict[str, object] = {
        "Acquisition": data.acquisition,
        "Picks asked for": f"{data.num_asked:,}",
        "Picks made": f"{data.num_picks:,}",
        "Pool rows": f"{data.num_pool:,}",
        "Targets": f"{data.num_targets:,}",
        "Passes over the pool": "" if data.num_passes is None else f"{data.num_passes:,}",
        "Time": duration(data.seconds),
    }
    known = {label: value for label, value in shared.items() if value != "" and label not in data.facts}
    return {plain(label): plain(value) for label, value in {**known, **data.facts}.items()}


def shown_uses(uses: Sequence[Use]) -> ShownUses:
    """Choose and order: minimums that were missed by the largest share, what has a unit, minimums, what is used most.

    At most `MAX_USES` are in the page: a quota may bound every one of a hundred thousand values.
    """
    ordered = sorted(uses, key=_rank)
    words = [_in_words(use) for use in ordered[:MAX_USES]]
    num_unmet = sum(use.is_unmet for use in uses)
    return ShownUses(words[:FIRST_USES], words[FIRST_USES:], max(0, len(ordered) - MAX_USES), num_unmet)


def _rank(use: Use) -> tuple[int, float]:
    if use.is_unmet:
        return 0, use.fullness
    return 1 if use.unit else 2 if use.least else 3, -use.fullness


def _in_words(use: Use) -> ShownUse:
    unit = f" {plain(use.unit)}" if use.unit else ""
    scale = use.most or max(use.used, use.least or 0.0)
    return ShownUse(
        name=clip(plain(use.name), 80),
        used=f"{number(use.used)}{unit}",
        allowed=_allowed(use, unit),
        verdict=_verdict(use),
        is_unmet=use.is_unmet,
        width=_share(use.used, scale),
        minimum=_share(use.least, scale) if use.least else "",
    )


def _allowed(use: Use, unit: str) -> str:
    if use.least is None:
        return "" if use.most is None else f"at most {number(use.most)}{unit}"
    if use.most is None:
        return f"at least {number(use.least)}{unit}"
    return f"{number(use.least)} to {number(use.most)}{unit}"


def _verdict(use: Use) -> str:
    if use.is_unmet:
        return f"{number((use.least or 0) - use.used)} short"
    if use.most is None:
        return "met" if use.least else ""
    return "used up" if use.used >= use.most else percent(use.used / use.most)


def _share(value: float, scale: float) -> str:
    return f"{min(max(value / scale, 0.0), 1.0):.1%}" if scale > 0 else "0.0%"


def _worst_targets(data: ReportData) -> list[dict[str, str]]:
    """Return the ten targets of which most is left, where the chart does not name each or there is more to see."""
    targets = data.targets_left
    if targets is None or (len(targets.left) <= NAMED_TARGETS and not targets.shown):
        return []
    places = targets.worst(_WORST_TARGETS)
    pictures = thumbnails([targets.shown.get(place) for place in places])
    return [
        {
            "id": clip(plain(targets.ids[place]), 80),
            "text": clip(targets.name(place), 300) if isinstance(targets.shown.get(place), str) else "",
            "picture": picture,
            "left": percent(float(targets.left[place])),
            "width": f"{min(float(targets.left[place]), 1.0):.1%}",
        }
        for place, picture in zip(places, pictures, strict=True)
    ]
