"""What `sift` and `sift_copies` found, as tables and as a page of charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.curves_page import CurvesChart, CurvesReport, render_curves
from benchmarks.value.paired import paired, saving
from benchmarks.value.rules import ALIKE, UNLIKE, Picked
from benchmarks.value.settings import RESERVED, HeldOutOptions, TuningOptions
from benchmarks.value.sift import Outcome, PoolResult, SiftResult
from ray_itl.report.document import Tile
from ray_itl.text import duration, number, percent

REFERENCE = "nearest"


def sift_tables(found: SiftResult, settings: HeldOutOptions) -> str:
    """Return a table for each pool, as Markdown."""
    last = settings.first_test + settings.tests - 1
    head = (
        f"{settings.group}: for one held-out passage at a time {settings.n} rows are picked, {steps_in_words(settings)}"
        f" Tests {settings.first_test} to {last} of each source; of the documents of all {RESERVED} no passage "
        f"is in a pool ({found.left_out:,} rows), nor of others {found.leaks:,} whose cosine to one of them is "
        f"{settings.leak:g} or more. Means over tests ± standard errors. Fewer picks: how many times fewer picks a "
        f"rule needs than {REFERENCE} to be as good as that is with {settings.n}, and the 95% interval. Unlike: picks "
        f"whose cosine to the target is below that of {percent(UNLIKE)} of the pool; opposite: below 0; alike: picks "
        f"with an earlier one at {ALIKE:g} or more; copies: with one of the same origin."
    )
    return "\n\n".join([head, *(_table(pool, settings) for pool in found.pools)])


def steps_in_words(options: TuningOptions) -> str:
    """Return how the model is trained and scored."""
    return (
        f"and a fresh copy of the model takes one step on each (Adam at {options.learning_rate:g}, LoRA of rank "
        f"{options.lora_rank} on {len(options.lora_modules)} kinds of layers, frozen weights in {options.precision}, "
        f"scores in float32, at most {options.max_tokens} tokens)."
    )


def _table(pool: PoolResult, settings: HeldOutOptions) -> str:
    untrained = np.mean([curve.bits[0] for curve in pool.outcomes[0].curves])
    sources = list(dict.fromkeys(pool.sources))
    columns = [
        *("rule", "bits/byte", f"minus {REFERENCE}", *(f"on {source}" for source in sources), "fewer picks"),
        *("unlike", "opposite", "alike", "copies", "s to pick", "s to tune"),
    ]
    lines = [
        f"Pool {pool.name}: {pool.num_rows:,} rows, of which {percent(pool.alike)} have another at {ALIKE:g} or more; "
        f"{len(pool.sources)} tests; {untrained:.4f} bits/byte untrained.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    lines += [f"| {' | '.join(_cells(each, pool, sources, settings))} |" for each in pool.outcomes]
    return "\n".join(lines)


def _cells(own: Outcome, pool: PoolResult, sources: Sequence[str], settings: HeldOutOptions) -> list[str]:
    reference = reference_of(pool)
    ends = _ends(own)
    cells = [own.rule.words, f"{ends.mean():.4f}"]
    if reference is None or reference is own:
        cells += [""] * (2 + len(sources))
    else:
        theirs, of = _ends(reference), np.array(pool.sources)
        cells.append(str(paired(ends, theirs)))
        cells += [str(paired(ends[of == source], theirs[of == source])) for source in sources]
        places = [0, *settings.scored_after]
        cells.append(str(saving(scores_of(own), scores_of(reference), places, 0)))
    kinds = (lambda each: each.unlike, lambda each: each.opposite, lambda each: each.alike, lambda each: each.copies)
    cells += [percent(_mean(own.picked, of)) for of in kinds]
    tuning = math.fsum(curve.seconds for curve in own.curves) / len(own.curves)
    return [*cells, f"{_mean(own.picked, lambda each: each.seconds):.2g}", f"{tuning:.3g}"]


def reference_of(pool: PoolResult) -> Outcome | None:
    """Return what others are compared with, if it is there."""
    return next((each for each in pool.outcomes if each.rule.name == REFERENCE), None)


def scores_of(own: Outcome) -> np.ndarray:
    """Return bits per byte, T x P: of each test, untrained and after each of the steps it was scored after."""
    return np.array([[curve.bits[steps] for steps in sorted(curve.bits)] for curve in own.curves])


def _ends(own: Outcome) -> np.ndarray:
    return scores_of(own)[:, -1]


def _mean(picked: Sequence[Picked], of: Callable[[Picked], float]) -> float:
    return math.fsum(map(of, picked)) / len(picked)


def sift_scores(found: SiftResult) -> str:
    """Return every score, as CSV: a line for each pool, test, rule and number of picks."""
    lines = ["pool,test,rule,picks,bits_per_byte"]
    for pool in found.pools:
        for own in pool.outcomes:
            for test, curve in zip(pool.tests, own.curves, strict=True):
                places = sorted(curve.bits)
                lines += [f"{pool.name},{test},{own.rule.name},{at},{curve.bits[at]:.6f}" for at in places]
    return "\n".join(lines) + "\n"


def render_sift(found: SiftResult, settings: HeldOutOptions, machine: str) -> str:
    """Return a page with the mean curves on each pool.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    charts = [chart for pool in found.pools for chart in _charts(pool, settings)]
    best = min(found.pools[0].outcomes, key=lambda each: float(_ends(each).mean()))
    seconds = math.fsum(curve.seconds for pool in found.pools for each in pool.outcomes for curve in each.curves)
    tiles = [
        Tile("untrained", number(float(scores_of(best)[:, 0].mean())), f"bits/byte, pool {found.pools[0].name}"),
        Tile("best rule", number(float(_ends(best).mean())), best.rule.words),
        Tile("fine-tuning", duration(seconds), "on one core"),
    ]
    headline = f"Bits per byte of a held-out passage by how many rows a model was fine-tuned on for it: {settings.n}."
    facts = {"Steps": steps_in_words(settings).removeprefix("and "), "Machine": machine}
    return render_curves(CurvesReport(settings.group, headline, charts, tiles, facts, "How it falls"))


def _charts(pool: PoolResult, settings: HeldOutOptions) -> list[CurvesChart]:
    places, reference = settings.scored_after, reference_of(pool)
    means = {each.rule.words: scores_of(each)[:, 1:].mean(axis=0) for each in pool.outcomes}
    charts = [
        CurvesChart(
            f"Pool {pool.name}: bits per byte",
            f"Means over {len(pool.sources)} tests; lower is better.",
            "rows, and steps",
            "bits per byte",
            {name: (places, mean.tolist()) for name, mean in means.items()},
            linear_y=True,
        )
    ]
    if reference is not None:
        base = means[reference.rule.words]
        gaps = {name: (places, (mean - base).tolist()) for name, mean in means.items()}
        charts.append(
            CurvesChart(
                f"Pool {pool.name}: difference to {REFERENCE}",
                "Below 0 is better than the nearest rows; errors are in the table.",
                "rows, and steps",
                "bits per byte",
                gaps,
                linear_y=True,
            )
        )
    return charts
