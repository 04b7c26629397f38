"""Which kernel picks rows that are like the targets: glosses of WordNet, embedded by MiniLM, and tasks of one class.

With a linear kernel a gain depends on the square of a correlation, so that an opposite row informs as a like one does.
Kernels that are small for unlike rows are compared, each as it is (the limit of ever more features) and by features of
a size that a pool can be held in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from benchmarks.kernels import (
    AnchoredFourier,
    ArcCosine,
    Kernel,
    TensorSketch,
    arc_cosine,
    greedy_picks,
    polynomial,
    rbf,
)
from benchmarks.settings import FeaturesSettings
from ray_itl.api import select
from ray_itl.core.features import FeatureMap, RandomFourier, UnitNorm
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.lengthscale import chosen_lengthscale
from ray_itl.curation.pool_rows import open_pool_rows
from ray_itl.curation.settings import CurationSettings
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.experiments.cache import Notify, cache_root
from ray_itl.experiments.models import minilm_path
from ray_itl.experiments.wordnet import read_synsets
from ray_itl.sources.arrays import ArraySource
from ray_itl.sources.settings import PoolSettings, TargetSettings

_NARROW = 0.6
"""The same again with so much of the lengthscale: rows that are as near as a twentieth of all pairs have 0.035 then."""
Way = Callable[[Tensor, Tensor, int, float, str], list[int]]
"""Of pool, targets, n, relative noise and rule: the picks."""


@dataclass(frozen=True)
class FeaturesResult:
    """The picks of one way, in the mean over tasks."""

    num_targets: int
    rule: str
    noise: float
    name: str
    opposite: float
    """Share of picks whose cosine to every target is negative."""
    unlike: float
    """Share of picks whose cosine to the nearest target is below the pool's 95th percentile of that."""
    of_class: float
    """Share of picks of the targets' class."""
    seconds: float
    """Of a task: features, where there are any, and selection."""


@dataclass(frozen=True)
class _Task:
    pool: Tensor
    targets: Tensor
    is_of_class: np.ndarray
    nearest: np.ndarray
    """Of every pool row, its cosine to the nearest target."""


def run_features(
    settings: FeaturesSettings, seed: int, _: Path, notify: Notify, given: tuple[np.ndarray, np.ndarray] | None = None
) -> list[FeaturesResult]:
    """Select for the same tasks in every way; of glosses, unless rows (norm 1) and their classes are given.

    Raises:
        InputError: the model or the texts cannot be had (says what to do).
        MissingExtraError: sentence-transformers is not installed.
    """
    rows, classes = _glosses(settings.num_rows, seed, notify) if given is None else given
    lengthscale = chosen_lengthscale(ArraySource(rows), notify)
    found = []
    for count in settings.num_targets:
        tasks = list(_tasks(rows, classes, count, settings.repeats, seed))
        for name, way in _ways(lengthscale, settings, seed):
            for rule in settings.rules:
                for noise in settings.noises:
                    found.append(_measured(name, way, tasks, settings.n, noise, rule))
                    notify(_line(found[-1]))
    return found


def _ways(lengthscale: float, settings: FeaturesSettings, seed: int) -> Iterator[tuple[str, Way]]:
    """Yield a name, and what selects by it."""
    size, degree = settings.num_features, settings.degree
    yield "unit_norm", _by_features(lambda _: UnitNorm())
    for word, length in (("", lengthscale), (f" x {_NARROW:g}", _NARROW * lengthscale)):
        fourier = RandomFourier(size, length, seed)
        larger = replace(fourier, num_features=4 * size)
        yield f"random_fourier{word}, {size}", _by_features(lambda _, fourier=fourier: fourier)
        yield f"random_fourier{word}, {4 * size}", _by_features(lambda _, larger=larger: larger)
        yield (
            f"random_fourier{word}, {size}, exact for targets",
            _by_features(lambda targets, fourier=fourier: AnchoredFourier(fourier, targets)),
        )
        yield f"RBF{word}, exact", _by_kernel(rbf(length))
    yield f"arc_cosine, {size}", _by_features(lambda _: ArcCosine(size, seed))
    yield "arc-cosine, exact", _by_kernel(arc_cosine)
    yield f"polynomial of degree {degree}, {size}", _by_features(lambda _: TensorSketch(size, degree, seed))
    yield f"polynomial of degree {degree}, exact", _by_kernel(polynomial(degree))


def _by_features(map_for: Callable[[Tensor], FeatureMap]) -> Way:
    def way(pool: Tensor, targets: Tensor, n: int, noise: float, rule: str) -> list[int]:
        feature_map = map_for(targets)
        features = feature_map(pool).to(torch.float32)
        picks = select(features, feature_map(targets), n, relative_noise=noise, acquisition=rule).ids
        return [int(row) for row in picks]

    return way


def _by_kernel(kernel: Kernel) -> Way:
    return lambda pool, targets, n, noise, rule: greedy_picks(kernel, pool, targets, n, noise, rule)


def _measured(name: str, way: Way, tasks: Sequence[_Task], n: int, noise: float, rule: str) -> FeaturesResult:
    began, shares = time.perf_counter(), []
    for task in tasks:
        picks = np.array(way(task.pool, task.targets, n, noise, rule))
        likeness, bound = task.nearest[picks], np.quantile(task.nearest, 0.95)
        shares.append([(likeness < 0).mean(), (likeness < bound).mean(), task.is_of_class[picks].mean()])
    seconds = (time.perf_counter() - began) / len(tasks)
    opposite, unlike, of_class = np.mean(shares, axis=0).tolist()
    return FeaturesResult(len(tasks[0].targets), rule, noise, name, opposite, unlike, of_class, seconds)


def _tasks(rows: np.ndarray, classes: np.ndarray, count: int, repeats: int, seed: int) -> Iterator[_Task]:
    """Yield tasks: some rows of a class that is drawn, among those of twice as many rows, and all other rows."""
    names, sizes = np.unique(classes, return_counts=True)
    able, exact = names[sizes >= 2 * max(count, 48)], torch.from_numpy(rows.astype(np.float64))
    for repeat in range(repeats):
        random = np.random.default_rng([seed, repeat])
        own = classes == random.choice(able)
        targets = np.sort(random.choice(np.flatnonzero(own), count, replace=False))
        rest = np.setdiff1d(np.arange(len(rows)), targets)
        nearest = (exact[rest] @ exact[targets].mT).amax(dim=1).numpy()
        yield _Task(exact[rest], exact[targets], own[rest], nearest)


def _glosses(num_rows: int, seed: int, notify: Notify) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (N x 384 float32, norm 1) and classes of glosses, no two the same; embedded once, and kept."""
    glosses = {synset.gloss: synset.label for synset in read_synsets(cache_root())}
    chosen = np.random.default_rng(seed).permutation(len(glosses))[:num_rows]
    texts = np.array(list(glosses), dtype=object)[np.sort(chosen)]
    settings = CurationSettings(
        pool=PoolSettings("<glosses>", text_column="text"),
        target=TargetSettings("<glosses>"),
        encoder=EncoderSettings(str(minilm_path(cache_root()))),
    )
    table = pa.table({"text": pa.array(texts.tolist())})
    notify(f"{len(texts):,} glosses, of which those are embedded that never were (some hundreds a second)")
    source = open_pool_rows(settings, Inputs(pool=table, tell=notify))
    rows = np.concatenate([batch for _, batch in source.batches(0, source.num_rows)]).astype(np.float32)
    return UnitNorm()(torch.from_numpy(rows).double()).float().numpy(), np.array([glosses[text] for text in texts])


def features_table(found: Sequence[FeaturesResult], settings: FeaturesSettings) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"Features: {settings.n} picks for targets of one class of WordNet, from {settings.num_rows:,} glosses, in the "
        f"mean over {settings.repeats} tasks. Opposite: picks of a negative cosine to every target; unlike: below the "
        "pool's 95th percentile of the cosine to the nearest; of the class: as the targets are",
        "",
        "| targets | rule | noise | features or kernel | opposite | unlike | of the class | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_line, found)])


def _line(each: FeaturesResult) -> str:
    return (
        f"| {each.num_targets} | {each.rule} | {each.noise:g} | {each.name} | {each.opposite:.1%} | "
        f"{each.unlike:.1%} | {each.of_class:.1%} | {each.seconds:.2g} |"
    )
