"""Embedding texts, beside the former way and beside sentence-transformers' own encode(), turn by turn in one process.

All have their model loaded and the texts in memory before the time counts. encode() runs with the fastest of its
settings, tried on a part of the texts: precisions that the processor has, and sizes of batches.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.settings import EmbeddingBenchmarkSettings
from ray_itl.embedding.encoder import Encoder
from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.precision import difference, has_bfloat16
from ray_itl.embedding.settings import EmbeddingModelSettings, EmbeddingSettings
from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, cache_root
from ray_itl.experiments.models import minilm_path
from ray_itl.experiments.wordnet import read_synsets
from ray_itl.extras import load_extra

OURS, OURS_EXACT, BEFORE, THEIRS = "embed", "embed, float32", "as they come, 64 at a time", "encode()"
_MAX_TOKENS = 128
Work = Callable[[], np.ndarray]


@dataclass(frozen=True)
class EmbeddingResult:
    """One that took turns."""

    name: str
    seconds: float
    """The median over the repeats."""
    tokens_seconds: float
    """Of this, what preparing takes by itself: texts to batches of tokens; nan where it cannot be told apart."""
    largest: float
    """The largest cosine distance of a row from that of encode() in float32."""


def run_embedding(
    settings: EmbeddingBenchmarkSettings, seed: int, _: Path, notify: Notify, texts: Sequence[str] | None = None
) -> list[EmbeddingResult]:
    """Let all take turns on the same texts; glosses of WordNet unless others are given.

    Raises:
        InputError: the model or the texts cannot be had (says what to do), or they are too few.
        MissingExtraError: sentence-transformers is not installed.
    """
    folder = settings.model or str(minilm_path(cache_root()))
    some = _glosses(settings.num_rows, seed) if texts is None else list(texts)[: settings.num_rows]
    column = pa.array(some)
    encoders = {
        OURS: open_encoder(EmbeddingModelSettings(folder), EmbeddingSettings(), sample=column),
        OURS_EXACT: open_encoder(EmbeddingModelSettings(folder), EmbeddingSettings(precision="float32"), sample=column),
        BEFORE: open_encoder(
            EmbeddingModelSettings("sentence_encoder", {"model": folder, "max_tokens": _MAX_TOKENS}),
            EmbeddingSettings(batch_size=64),
        ),
    }
    for note in encoders[OURS].notes:
        notify(note)
    works: dict[str, Work] = {
        name: lambda encoder=encoder: encoder.embed_column(column) for name, encoder in encoders.items()
    }
    named, works[THEIRS], exact = _best_encode(folder, some, settings, notify)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    largest: dict[str, float] = {}
    for repeat in range(settings.repeats):
        for name, work in works.items():
            taken, found = _timed(work)
            seconds[name].append(taken)
            notify(f"{name}: {len(some) / taken:,.0f} rows/s ({repeat + 1} of {settings.repeats})")
            if not repeat:
                largest[name] = difference(exact(), found).largest
    return [
        EmbeddingResult(
            f"{THEIRS}, {named}" if name == THEIRS else name,
            statistics.median(each),
            _prepare_seconds(encoders.get(name), column),
            largest[name],
        )
        for name, each in seconds.items()
    ]


def _best_encode(
    folder: str, texts: list[str], settings: EmbeddingBenchmarkSettings, notify: Notify
) -> tuple[str, Work, Work]:
    """Return the words for the fastest settings of encode(), all texts with these, and in float32."""
    library: Any = load_extra("sentence_transformers", "suite=embedding", "text")
    dtypes = [torch.float32, *([torch.bfloat16] if has_bfloat16("cpu") else [])]
    part = texts[: max(1, int(len(texts) * settings.tried))]
    found: dict[str, tuple[float, Work]] = {}
    exact: Work | None = None
    for dtype in dtypes:
        model = library.SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})
        for size in settings.batch_sizes:

            def encode(some: list[str] = texts, model: Any = model, size: int = size) -> np.ndarray:
                return model.encode(some, batch_size=size, show_progress_bar=False)

            encode(part[:size])
            name = f"{str(dtype).removeprefix('torch.')}, {size} at a time"
            found[name] = _timed(lambda encode=encode: encode(part))[0], encode
            exact = exact or encode
            notify(f"encode() in {name}: {len(part) / found[name][0]:,.0f} rows/s")
    best = min(found, key=lambda name: found[name][0])
    assert exact is not None
    return best, found[best][1], exact


def _prepare_seconds(encoder: Encoder | None, column: pa.Array) -> float:
    if encoder is None:
        return float("nan")
    starts = range(0, len(column), encoder.window)
    return _timed(lambda: [encoder.prepare(column.slice(start, encoder.window)) for start in starts])[0]


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def _glosses(count: int, seed: int) -> list[str]:
    texts = [synset.gloss for synset in read_synsets(cache_root())]
    if count > len(texts):
        raise InputError(f"embedding.num_rows={count:,}, but WordNet has {len(texts):,} glosses: ask for fewer")
    random.Random(seed).shuffle(texts)
    return texts[:count]


def embedding_table(results: Sequence[EmbeddingResult], settings: EmbeddingBenchmarkSettings) -> str:
    """Return the figures as a Markdown table; ratios above 1 are slower than ours."""
    ours = next(result.seconds for result in results if result.name == OURS)
    lines = [
        f"Embedding: {settings.num_rows:,} texts by one model, medians of {settings.repeats}, turn by turn on "
        f"{torch.get_num_threads()} threads.",
        "",
        "| who | seconds | rows/s | times ours | tokens alone, s | cosine distance from float32, at most |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        tokens = "" if np.isnan(result.tokens_seconds) else f"{result.tokens_seconds:.2f}"
        lines.append(
            f"| {result.name} | {result.seconds:.1f} | {settings.num_rows / result.seconds:,.0f} | "
            f"{result.seconds / ours:.2f} | {tokens} | {result.largest:.1g} |"
        )
    return "\n".join(lines)
