"""Numbers and untrusted values in words."""

from numbers import Integral, Real
from typing import NamedTuple

from ray_itl.report.data import ReportData

UNCERTAINTY = "the targets' prior uncertainty"
_DIRECTED_RULES = ("itl", "vtl")


class Tile(NamedTuple):
    """One key figure: a short label, its value, and a note that may be empty."""

    label: str
    value: str
    note: str


def number(value: float) -> str:
    """`value` to four significant digits, with thousands separated: 1234567 is 1,234,567."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share as a percentage that never rounds to all or nothing."""
    if 0.9999 < share < 1:
        return "over 99.99%"
    if 0 < share < 0.0001:
        return "under 0.01%"
    return f"{100 * share:.3g}%" if abs(share) < 0.995 else f"{100 * share:.4g}%"


def duration(seconds: float) -> str:
    """Seconds in the units a person would use: 0.42 s, 3 min 12 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, noun: str) -> str:
    """`count` with `noun`: 1 row, 2,000 rows."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def clip(text: str, most: int) -> str:
    """`text`, or its beginning and an ellipsis: at most `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def plain(value: object) -> str:
    """Any value as text: nothing for None, undecodable bytes replaced."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):.6g}"
    return str(value)


def amount(gain: float, unit: str) -> str:
    """A gain with its unit."""
    return f"{number(gain)} nats" if unit == "nats" else f"{number(gain)} of variance"


def headline(data: ReportData) -> str:
    """One sentence: what was picked, from what, with how much information, and what uncertainty is left."""
    total = float(data.cumulative_gains[-1])
    gained = number(total) + (" nats of information" if data.gain_unit == "nats" else " less variance")
    left = percent(float(data.remaining_uncertainty[-1]))
    asked = f" ({data.num_asked:,} were asked for)" if data.num_asked != data.num_picks else ""
    picked = f"{plural(data.num_picks, 'row')}{asked} picked from {data.num_pool:,}"
    about = f"about {plural(data.num_targets, 'target')}"
    end = f"with {left} of {UNCERTAINTY} left."
    if data.acquisition.lower() not in _DIRECTED_RULES:
        return f"{picked} by {clip(plain(data.acquisition), 40)}: {gained} {about}, {end}"
    each, given = ("each", " given the picks before it") if data.num_picks > 1 else ("the one", "")
    return f"{picked}, {each} most informative {about}{given}: {gained}, {end}"


def tiles(data: ReportData) -> list[Tile]:
    """The key figures, most important first."""
    cumulative = data.cumulative_gains
    total = float(cumulative[-1])
    half = int((cumulative < total / 2).sum()) + 1
    label = "Information gained" if data.gain_unit == "nats" else "Variance removed"
    note = f"half of it from the first {plural(half, 'pick')}" if data.num_picks > 1 else ""
    floor = "" if data.irreducible is None else f"the whole pool would leave {percent(data.irreducible)}"
    asked = "" if data.num_asked == data.num_picks else f"of {data.num_asked:,} asked for"
    passes = "" if data.num_passes is None else f"in {data.num_passes:,} pass{'es' * (data.num_passes != 1)}"
    picked = f"{percent(data.num_picks / max(data.num_pool, 1))} picked"
    return [
        Tile("Rows picked", f"{data.num_picks:,}", asked),
        Tile(label, amount(total, data.gain_unit) if data.gain_unit == "nats" else number(total), note),
        Tile("Uncertainty left", percent(float(data.remaining_uncertainty[-1])), floor),
        Tile("Rows in the pool", f"{data.num_pool:,}", picked),
        Tile("Targets", f"{data.num_targets:,}", ""),
        Tile("Time", duration(data.seconds), passes),
    ]


def facts(data: ReportData) -> dict[str, str]:
    """Every fact of the run, label to text; `data.facts` follow the ones all runs have."""
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
