"""The suite `gradients`: rows picked by what they would teach the model, beside rows picked by what they are like.

As `sift`, from a pool that is small, since a gradient of each row takes a pass of the model forth and back. Rules see a
row as its embedding, as hidden states of the model (RDS+; Ivison et al., 2025, arXiv 2503.01807), or as the gradient of
its own loss with respect to adapters after a warm-up on other rows (LESS; Xia et al., 2024, arXiv 2402.04333): the
nearest rows by these are what LESS picks for one target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.value.corpus import Corpus, HeldOut, Pool, read_corpus
from benchmarks.value.rules import Picked, Rule
from benchmarks.value.settings import GradientsSettings
from benchmarks.value.sift import Outcome, PoolResult, SiftResult, kept_folder, pick_kept, share_alike, tuned
from ray_itl.embedding.job import embed_pool
from ray_itl.embedding.settings import (
    EmbeddingModelSettings,
    EmbeddingSettings,
    EmbedJobSettings,
    EmbedRunSettings,
    OutputSettings,
    RawPoolSettings,
    WorkerSettings,
)
from ray_itl.experiments.cache import Notify, as_matrix, cache_root, make_folder
from ray_itl.experiments.models import smollm2_folder
from ray_itl.io.atomic import write_parquet_table
from ray_itl.training.checkpoint import second_moments_path
from ray_itl.training.examples import Examples, write_examples
from ray_itl.training.registry import ModelSpec
from ray_itl.training.seeds import derive_seed
from ray_itl.training.settings import TrainingSettings
from ray_itl.training.trainer import LocalTrainer, TrainTask

_PART_ROWS = 256
"""Rows that an interrupted run may embed again."""


def run_gradients(
    settings: GradientsSettings, seed: int, folder: Path, notify: Notify, corpus: Corpus | None = None
) -> SiftResult:
    """Train the adapters a little, embed the pool in every way that a rule asks for, then as `run_sift`."""
    corpus = corpus or read_corpus(seed, settings.leak, notify)
    kept = kept_folder(settings, seed, folder, "gradients")
    model = settings.model or str(smollm2_folder(cache_root(), notify))
    tests = corpus.tests(settings.first_test, settings.tests)
    pool, others = corpus.among(tests, settings.nearest, settings.others, settings.warmup)
    notify(f"gradients: {len(pool.rows):,} rows")
    rules = [Rule.parse(name) for name in settings.rules]
    views = _Views(settings, model, pool, tests, others, seed, kept, notify)
    picked: dict[str, list[Picked]] = {}
    for features in dict.fromkeys(rule.features for rule in rules):
        own = [rule for rule in rules if rule.features == features]
        picked |= pick_kept(own, *views.seen(features), settings.n, seed, kept / "picks", notify)
    curves = tuned(picked, pool, tests, settings, model, seed, kept / "tests", notify)
    outcomes = [Outcome(rule, picked[rule.name], curves[rule.name]) for rule in rules]
    alike = share_alike(pool.rows, seed)
    found = PoolResult("around the tests", len(pool.rows), alike, [test.name for test in tests], outcomes)
    return SiftResult([found], corpus.num_of_documents, corpus.num_leaks)


@dataclass(frozen=True)
class _Views:
    """The pool and the tests as rules see them."""

    _settings: GradientsSettings
    _model: str
    _pool: Pool
    _tests: Sequence[HeldOut]
    _others: Sequence[str]
    """Texts for the warm-up."""
    _seed: int
    _kept: Path
    _notify: Notify

    def seen(self, features: str | None) -> tuple[Pool, list[HeldOut]]:
        """Return the pool and the tests with some features in place of their embeddings, all of norm 1."""
        if features is None:
            return self._pool, list(self._tests)
        if features == "rds":
            rows = self._embedded(features, {"pooling": "position_weighted"}, EmbeddingSettings(unit_norm=True))
        else:
            dim = self._settings.projection_dim
            how = EmbeddingSettings("lora_gradient", unit_norm=True, projection_dim=dim)
            rows = self._embedded(features, self._adapters(), how, [self._moment(features == "adam")])
        count = len(self._pool.rows)
        targets = rows[count:]
        tests = [replace(test, target=target) for test, target in zip(self._tests, targets, strict=True)]
        return replace(self._pool, rows=rows[:count]), tests

    def _options(self, more: dict[str, Any]) -> dict[str, Any]:
        own = self._settings
        shared = {"path": self._model, "max_tokens": own.max_tokens, "start_token": own.start_token}
        return {**shared, "dtype": own.precision, **more}

    def _adapters(self) -> dict[str, Any]:
        return {"lora_rank": self._settings.lora_rank, "lora_modules": self._settings.lora_modules}

    def _moment(self, as_adam: bool) -> dict[str, str]:
        """Return the adapters after the warm-up, as of `model.checkpoints`."""
        folder = make_folder(self._kept / "warmup")
        checkpoint = folder / "checkpoint.safetensors"
        spec, seed = ModelSpec("causal_lm", self._options(self._adapters())), derive_seed(self._seed, "warmup")
        if not checkpoint.exists():
            self._notify(f"gradients: a step on each of {len(self._others)} rows outside of the pool")
            examples = folder / "examples.safetensors"
            write_examples(examples, Examples(spec.build(seed).encode(pa.array(self._others))))
            training = TrainingSettings(
                epochs=1, batch_size=1, learning_rate=self._settings.learning_rate, keep_second_moments=True
            )
            where = str(examples), str(checkpoint)
            task = TrainTask(spec, *where, training, seed, objective="causal_lm", trainable_only=True)
            LocalTrainer().fit(task)
        moment = {"path": str(checkpoint)}
        return {**moment, "second_moments": str(second_moments_path(checkpoint))} if as_adam else moment

    def _embedded(
        self, name: str, options: dict[str, Any], how: EmbeddingSettings, moments: Sequence[dict[str, str]] = ()
    ) -> np.ndarray:
        """Return pool and tests in this order by `ray-itl embed`, kept in a folder of this name."""
        texts = [*self._pool.texts.to_pylist(), *(test.text for test in self._tests)]
        table = pa.table({"id": np.arange(len(texts)), "text": texts})
        path = self._kept / "texts.parquet"
        if not path.exists():
            write_parquet_table(path, table)
        seed = derive_seed(self._seed, "warmup")
        self._notify(f"gradients: {name} of {len(texts):,} texts")
        embed_pool(
            EmbedJobSettings(
                pool=RawPoolSettings(str(path)),
                model=EmbeddingModelSettings("causal_lm", self._options(options), seed=seed, checkpoints=[*moments]),
                embedding=how,
                output=OutputSettings(part_rows=_PART_ROWS),
                cluster=WorkerSettings(num_workers=0),
                run=EmbedRunSettings(str(self._kept / name)),
            )
        )
        found = pq.read_table(self._kept / name / "embeddings").sort_by("id")
        return as_matrix(found["embedding"])
