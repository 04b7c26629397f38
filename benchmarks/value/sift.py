"""The suites `sift` and `sift_copies`: what rows teach a language model about one held-out passage at a time.

For each of the tests every rule picks rows of a pool, in which none is of the tests' documents, with the test's own
embedding as the only target; a fresh copy of the model takes one gradient step on each pick; and the test is scored in
bits per byte (Hübotter et al., *Efficiently Learning at Test-Time: Active Fine-Tuning of LLMs*, 2024, arXiv
2410.08020). `settings` has the rules of the comparison.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.value.corpus import NATURAL_SOURCES, SOURCES, Corpus, HeldOut, Pool, read_corpus, repeating_texts
from benchmarks.value.edits import VERSION as EDITS
from benchmarks.value.rules import ALIKE, Candidates, Picked, Rule, pick_for_all
from benchmarks.value.scoring import Work, score_all
from benchmarks.value.settings import SiftSettings, TuningOptions
from benchmarks.value.tuning import Curve
from ray_itl.experiments.cache import Notify, cache_root, make_folder
from ray_itl.experiments.models import smollm2_folder
from ray_itl.experiments.passages import VERSION as PASSAGES
from ray_itl.io.atomic import write_json
from ray_itl.loaded.pool import open_pool
from ray_itl.options.declare import deciding
from ray_itl.training.seeds import derive_seed

_LOOKED_AT = 500
"""Rows of which it is counted how many are alike to another of the pool."""


@dataclass(frozen=True)
class Outcome:
    """A rule on a pool: what it picked for each test, and how the model then did."""

    rule: Rule
    picked: Sequence[Picked]
    curves: Sequence[Curve]


@dataclass(frozen=True)
class PoolResult:
    """All rules on one pool, over the same tests in the same order."""

    name: str
    num_rows: int
    alike: float
    """Share of the rows that have another at a cosine of 0.95 or more."""
    tests: Sequence[str]
    """Their names: source and number."""
    outcomes: Sequence[Outcome]

    @property
    def sources(self) -> list[str]:
        """Of the tests."""
        return [test.rpartition("-")[0] for test in self.tests]


@dataclass(frozen=True)
class SiftResult:
    """What a suite found."""

    pools: Sequence[PoolResult]
    left_out: int
    """Rows of the tests' documents."""
    leaks: int
    """Further rows that were nearly equal to a test."""


def run_sift(
    settings: SiftSettings, seed: int, folder: Path, notify: Notify, corpus: Corpus | None = None
) -> SiftResult:
    """Pick, fine-tune and score; the same call goes on where it was interrupted.

    Args:
        settings: The options.
        seed: Of tests, copies, random picks and adapters.
        folder: Results are kept below it, in a folder for these options.
        notify: Takes lines of progress.
        corpus: The passages; None: those of `read_corpus`.

    Raises:
        InputError: data or model cannot be had (says what to do), or a pool is too small.
        RunDirectoryError: a file cannot be written, or a process died.
    """
    corpus = corpus or read_corpus(seed, settings.leak, notify)
    kept = kept_folder(settings, seed, folder, "sift")
    model = settings.model or str(smollm2_folder(cache_root(), notify))
    found = []
    for name in settings.pools:
        tests = corpus.tests(settings.first_test, settings.tests, NATURAL_SOURCES if name == "natural" else SOURCES)
        pool = _pool(name, corpus, settings, folder, notify)
        notify(f"{name}: {len(pool.rows):,} rows")
        rules = [Rule.parse(rule) for rule in settings.rules]
        picked = pick_kept(rules, pool, tests, settings.n, seed, kept / name, notify)
        curves = tuned(picked, pool, tests, settings, model, seed, kept / name, notify)
        outcomes = [Outcome(rule, picked[rule.name], curves[rule.name]) for rule in rules]
        alike = share_alike(pool.rows, seed)
        found.append(PoolResult(name, len(pool.rows), alike, [test.name for test in tests], outcomes))
    return SiftResult(found, corpus.num_of_documents, corpus.num_leaks)


def kept_folder(settings: TuningOptions, seed: int, folder: Path, name: str) -> Path:
    """Return where results of these options are kept; those of others are never mixed with them."""
    identity = {**deciding(settings), "seed": str(seed), "passages": str(PASSAGES), "edits": str(EDITS)}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    kept = make_folder(folder / name / digest)
    write_json(kept / "options.json", identity)
    return kept


def _pool(name: str, corpus: Corpus, settings: SiftSettings, folder: Path, notify: Notify) -> Pool:
    if name == "edited":
        return corpus.edited(settings.rows, settings.most_copies, folder, notify)
    return corpus.clean() if name == "clean" else corpus.natural(repeating_texts())


def pick_kept(
    rules: Sequence[Rule], pool: Pool, tests: Sequence[HeldOut], n: int, seed: int, folder: Path, notify: Notify
) -> dict[str, list[Picked]]:
    """Return what each rule picks for each test, kept in a file for each rule and choice of tests."""
    make_folder(folder)
    names = [test.name for test in tests]
    among = Candidates(pool.rows, pool.origins, names, np.array([test.target for test in tests]))
    choice = hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]
    files = {rule: folder / f"picks-{rule.name}-{choice}.json" for rule in rules}
    if not all(file.exists() for file in files.values()):
        with open_pool(pool.rows) as loaded:
            for rule, file in files.items():
                if not file.exists():
                    picked = pick_for_all(rule, among, loaded, n, seed)
                    notify(f"{folder.name}, {rule.name}: {picked[0].seconds:.3g} s a test to pick {n}")
                    write_json(file, [asdict(each) for each in picked])
    return {rule.name: [Picked(**each) for each in json.loads(file.read_text())] for rule, file in files.items()}


def tuned(
    picked: Mapping[str, Sequence[Picked]],
    pool: Pool,
    tests: Sequence[HeldOut],
    options: TuningOptions,
    model: str,
    seed: int,
    folder: Path,
    notify: Notify,
) -> dict[str, list[Curve]]:
    """Return each rule's curve of each test, kept in files below a folder."""
    works = []
    for number, test in enumerate(tests):
        texts = {rule: pool.texts_of(own[number].rows) for rule, own in picked.items()}
        works.append(Work(folder / test.name, test.text, texts))
    curves = score_all(works, options, model, seed, notify)
    return {rule: [own[rule] for own in curves] for rule in picked}


def share_alike(rows: np.ndarray, seed: int) -> float:
    """Return the share of rows that have another at a cosine of 0.95 or more, told from 500 of them."""
    draw = np.random.default_rng(derive_seed(seed, "alike"))
    some = draw.choice(len(rows), min(_LOOKED_AT, len(rows)), replace=False)
    return float(((rows @ rows[some].T >= ALIKE).sum(axis=0) > 1).mean())
