"""Variants can be told apart, whatever colours the reader sees."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from ray_itl.report.learning_charts import NUM_COLORS, variant_styles

CSS = (files("ray_itl.report") / "templates" / "learning.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--variant-(\w+): (#\w{6});", part)) for part in CSS.split("@media")[:2])
CARDS = {"light": "#ffffff", "dark": "#1a1e26"}
THEMES = {"light": LIGHT, "dark": DARK}
# Linear RGB as people without one kind of cone see it (Machado, Oliveira and Fernandes, 2009).
VISION = {
    "all cones": np.eye(3),
    "no long": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "no medium": np.array([[0.3674, 0.8607, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "no short": np.array([[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> np.ndarray:
    channels = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(color)) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    scaled = XYZ @ rgb / XYZ.sum(1)
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", THEMES)
def test_every_colour_stands_out_from_the_card(theme: str):
    assert set(THEMES[theme]) == {str(k) for k in range(NUM_COLORS)} | {"reference"}
    assert min(contrast(color, CARDS[theme]) for color in THEMES[theme].values()) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_to_every_kind_of_vision(theme: str, vision: str):
    seen = [lab(np.clip(VISION[vision] @ linear(color), 0, 1)) for color in THEMES[theme].values()]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) >= 12


def test_the_style_sheet_of_the_page_has_these_cards():
    page = (files("ray_itl.report") / "templates" / "page.css").read_text()
    assert re.findall(r"--card: (#\w{6});", page) == list(CARDS.values())


def test_variants_differ_by_colour_and_by_dash_or_marker():
    names = [f"variant {k}" for k in range(24)]
    styles = variant_styles([*names, "random"], "random")
    assert len({style.key for style in styles.values()}) == 25
    assert len({(style.color, style.dash, style.symbol) for style in styles.values()}) == 25
    assert [name for name, style in styles.items() if style.color == "reference"] == ["random"]
    same_color = [(a, b) for a, b in combinations(styles.values(), 2) if a.color == b.color]
    assert all(a.dash != b.dash or a.symbol != b.symbol for a, b in same_color)
    without_color = [(style.dash, style.symbol) for style in (styles["random"], *list(styles.values())[:8])]
    assert len(set(without_color)) == 9


def test_a_variant_looks_the_same_with_and_without_the_reference_before_it():
    assert variant_styles(["random", "ITL"], "random")["ITL"][1:] == variant_styles(["ITL"], None)["ITL"][1:]
