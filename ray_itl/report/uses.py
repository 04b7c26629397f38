"""How much of the budget and of the quotas was used: what the page says of each limit, and of which."""

from collections.abc import Sequence
from typing import NamedTuple

from ray_itl.report.parts import Use
from ray_itl.report.words import clip, number, percent, plain

FIRST_USES = 12
MOST_USES = 300


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


def shown_uses(uses: Sequence[Use]) -> ShownUses:
    """Choose and order: minimums that were missed by the largest share, what has a unit, minimums, what is used most.

    At most `MOST_USES` are in the page: a quota may bound every one of a hundred thousand values.
    """
    ordered = sorted(uses, key=_rank)
    words = [_in_words(use) for use in ordered[:MOST_USES]]
    num_unmet = sum(use.is_unmet for use in uses)
    return ShownUses(words[:FIRST_USES], words[FIRST_USES:], max(0, len(ordered) - MOST_USES), num_unmet)


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
