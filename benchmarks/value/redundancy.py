"""The suite `redundancy`: how rules fall as every row of a pool gets more copies.

The pool holds the rows most like each test, and lightly edited copies of them: those of fewer copies are among those of
more. What picks are worth is I(f_A; y_X) by the float64 definitions, A being the test alone; with redundancy.score the
model is fine-tuned, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.comparison import worth
from benchmarks.curves_page import CurvesChart, CurvesReport, render_curves
from benchmarks.value.corpus import Corpus, HeldOut, Pool, read_corpus
from benchmarks.value.paired import paired
from benchmarks.value.rules import Picked, Rule
from benchmarks.value.settings import RedundancySettings
from benchmarks.value.sift import kept_folder, pick_kept, tuned
from benchmarks.value.sift_report import REFERENCE, steps_in_words
from ray_itl.experiments.cache import Notify, cache_root
from ray_itl.experiments.models import smollm2_folder
from ray_itl.text import percent


@dataclass(frozen=True)
class Level:
    """All rules on the pool with some number of copies, of the same tests in the same order."""

    copies: int
    num_rows: int
    nats: Mapping[str, np.ndarray]
    """Rule -> Z x T: I(f_A; y_X) at each noise, of each test."""
    repeats: Mapping[str, float]
    """Rule -> share of picks that are of the same origin as an earlier one."""
    bits: Mapping[str, np.ndarray]
    """Rule -> T bits per byte after the last step; empty without redundancy.score."""


def run_redundancy(
    settings: RedundancySettings, seed: int, folder: Path, notify: Notify, corpus: Corpus | None = None
) -> list[Level]:
    """Pick with every number of copies; see `run_sift`."""
    corpus = corpus or read_corpus(seed, settings.leak, notify)
    tests = corpus.tests(settings.first_test, settings.tests)
    whole = corpus.around(tests, settings.nearest, settings.copies[-1], folder, notify)
    kept = kept_folder(settings, seed, folder, "redundancy")
    rules, levels = [Rule.parse(rule) for rule in settings.rules], []
    for copies in settings.copies:
        pool, own = whole.up_to(copies), kept / f"copies-{copies}"
        notify(f"{copies} copies of each row: {len(pool.rows):,} rows")
        picked = pick_kept(rules, pool, tests, settings.n, seed, own, notify)
        bits: dict[str, np.ndarray] = {}
        if settings.score:
            model = settings.model or str(smollm2_folder(cache_root(), notify))
            curves = tuned(picked, pool, tests, settings, model, seed, own, notify)
            bits = {rule: np.array([curve.bits[settings.n] for curve in each]) for rule, each in curves.items()}
        nats = {rule: _nats(each, pool, tests, settings.noises) for rule, each in picked.items()}
        repeats = {rule: float(np.mean([one.copies for one in each])) for rule, each in picked.items()}
        levels.append(Level(copies, len(pool.rows), nats, repeats, bits))
    return levels


def _nats(picked: Sequence[Picked], pool: Pool, tests: Sequence[HeldOut], noises: Sequence[float]) -> np.ndarray:
    """Return I(f_A; y_X), Z x T, of what was picked for T tests, at Z noises."""
    return np.array(
        [
            [
                worth(torch.from_numpy(pool.rows[own.rows]), torch.from_numpy(test.target[None]), noise).nats
                for own, test in zip(picked, tests, strict=True)
            ]
            for noise in noises
        ]
    )


def redundancy_tables(levels: Sequence[Level], settings: RedundancySettings) -> str:
    """Return tables of what picks are worth by copies, as Markdown."""
    parts = [
        f"Redundancy: {settings.n} picks for each of {3 * settings.tests} held-out passages, from the "
        f"{settings.nearest} rows most like each and, of all of them, copies that are lightly edited "
        f"({levels[0].num_rows:,} to {levels[-1].num_rows:,} rows); means over tests."
    ]
    for place, noise in enumerate(settings.noises):
        means = {rule: [level.nats[rule][place].mean() for level in levels] for rule in settings.rules}
        cells = {rule: [f"{v:.4f} ({percent(v / own[0])})" for v in own] for rule, own in means.items()}
        parts.append(
            _table(f"I(f_A; y_X) in nats at noise variance {noise:g}, and of that without copies", cells, levels)
        )
    repeats = {rule: [percent(level.repeats[rule]) for level in levels] for rule in settings.rules}
    parts.append(_table("Picks that are of the same origin as an earlier pick", repeats, levels))
    if levels[0].bits:
        cells = {rule: [_bits(level.bits, rule) for level in levels] for rule in settings.rules}
        words = f"Bits per byte of the test, and minus {REFERENCE}: a row a step, {steps_in_words(settings)}"
        parts.append(_table(words.rstrip("."), cells, levels))
    return "\n\n".join(parts)


def _table(words: str, cells: Mapping[str, Sequence[str]], levels: Sequence[Level]) -> str:
    lines = [
        f"{words}, by copies of each row:",
        "",
        f"| rule | {' | '.join(str(level.copies) for level in levels)} |",
        "|---" * (len(levels) + 1) + "|",
    ]
    lines += [f"| {Rule.parse(rule).words} | {' | '.join(own)} |" for rule, own in cells.items()]
    return "\n".join(lines)


def _bits(bits: Mapping[str, np.ndarray], rule: str) -> str:
    mean = f"{bits[rule].mean():.4f}"
    return mean if rule == REFERENCE or REFERENCE not in bits else f"{mean} ({paired(bits[rule], bits[REFERENCE])})"


def render_redundancy(levels: Sequence[Level], settings: RedundancySettings, machine: str) -> str:
    """Return a page with a chart of what picks are worth for each noise, and one of bits per byte if there are any.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    places = [level.copies for level in levels]
    named = {rule: Rule.parse(rule).words for rule in settings.rules}
    charts = []
    for place, noise in enumerate(settings.noises):
        curves = {
            words: (places, [float(level.nats[rule][place].mean()) for level in levels])
            for rule, words in named.items()
        }
        caption = f"Information about the target in {settings.n} picks, noise variance {noise:g}; higher is better."
        heading = f"What picks are worth at noise {noise:g}"
        charts.append(CurvesChart(heading, caption, "copies of each row", "nats", curves, linear_y=True))
    if levels[0].bits:
        curves = {
            words: (places, [float(level.bits[rule].mean()) for level in levels]) for rule, words in named.items()
        }
        caption = "Of held-out passages, after a step on each pick; lower is better."
        charts.append(CurvesChart("Bits per byte", caption, "copies of each row", "bits", curves, linear_y=True))
    headline = f"What {settings.n} picks are worth as every row of the pool gets copies."
    return render_curves(
        CurvesReport("Redundancy", headline, charts, facts={"Machine": machine}, charts_heading="How it falls")
    )
