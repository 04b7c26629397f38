"""How the variants are told apart: each has its colour, dash and marker on every chart and in the key.

Colours have names here and values in the style sheet, which differ between light and dark.
"""

from collections.abc import Sequence
from typing import NamedTuple

NUM_COLORS = 6
_DASHES = {"solid": "", "dash": "6 3", "dot": "2 2", "dashdot": "6 2 2 2"}
# Markers around (0, 0) as plotly draws them, for the key.
_MARKERS = {
    "circle": "M-4,0 a4,4 0 1,0 8,0 a4,4 0 1,0 -8,0Z",
    "square": "M-3.5,-3.5 H3.5 V3.5 H-3.5Z",
    "diamond": "M0,-5 L5,0 L0,5 L-5,0Z",
    "triangle-up": "M0,-4.5 L4.5,3.5 L-4.5,3.5Z",
    "cross": "M-1.6,-4.5 H1.6 V-1.6 H4.5 V1.6 H1.6 V4.5 H-1.6 V1.6 H-4.5 V-1.6 H-1.6Z",
    "triangle-down": "M0,4.5 L4.5,-3.5 L-4.5,-3.5Z",
    "hourglass": "M-4,-4.5 H4 L-4,4.5 H4Z",
    "bowtie": "M-4.5,-4 L4.5,4 V-4 L-4.5,4Z",
}


class VariantStyle(NamedTuple):
    """The look of one variant.

    Attributes:
        key: names the variant in the page: its colour is `--variant-<color>`, its traces are group `key`.
        color: name of the colour.
        dash: plotly's name of the dash, `dash_array` the same for SVG.
        symbol: plotly's name of the marker, `marker_path` the same for SVG.
    """

    key: str
    color: str
    dash: str
    dash_array: str
    symbol: str
    marker_path: str


def variant_styles(names: Sequence[str], reference: str | None) -> dict[str, VariantStyle]:
    """A style for each variant; the reference has a colour that no other has. Up to 24 others all look different."""
    styles = {}
    rank = 0
    for position, name in enumerate(names):
        if name == reference:
            styles[name] = _style(position, "reference", "dot", "circle")
            continue
        dash, symbol = list(_DASHES)[rank % len(_DASHES)], list(_MARKERS)[rank % len(_MARKERS)]
        styles[name] = _style(position, str(rank % NUM_COLORS), dash, symbol)
        rank += 1
    return styles


def _style(position: int, color: str, dash: str, symbol: str) -> VariantStyle:
    return VariantStyle(f"variant-{position}", color, dash, _DASHES[dash], symbol, _MARKERS[symbol])
