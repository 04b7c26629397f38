"""WordNet 3.0: 117,659 definitions (glosses) in 45 classes, one for each lexicographer file.

Princeton University (Miller, 1995), WordNet licence: free use, modification and distribution with its notice. Taken
from the Debian package wordnet-base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, data_folder, silent
from ray_itl.experiments.fetch import Package, Tool, fetch
from ray_itl.experiments.frozen_features import write_embedded_texts

VERSION = 1
WORDNET = Package(
    Tool.DEBIAN,
    "wordnet-base",
    None,
    ("usr/share/wordnet/data.*",),
    "5c25742f8b698b28445603771d3c4326bda55981e94ff05dfcdcc212d2f906e1",
)
CLASSES = (
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
)
"""Names of the lexicographer files; the position is the class number."""
_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")


@dataclass(frozen=True)
class Synset:
    """One meaning: `id` is its offset and part of speech (n, v, a, s for a satellite adjective, r)."""

    id: str
    label: int
    words: tuple[str, ...]
    gloss: str


def prepare(cache: Path, notify: Notify = silent) -> Path:
    """Return the folder with pool.parquet of WordNet (117,659 rows), written if missing: about 20 minutes of a core.

    Columns: id (text), text (the gloss: definition, then quoted examples), label (int64, 0 to 44), class_name (of
    CLASSES), embedding (384 x float16: all-MiniLM-L6-v2, unit norm). There is no test set; tasks split the pool.

    Raises:
        InputError: the data or the model cannot be had, or transformers is missing (says what to do).
    """
    folder = data_folder(cache, "wordnet", VERSION)
    write_embedded_texts(cache, folder / "pool.parquet", lambda: _table(read_synsets(cache)), notify)
    return folder


def read_synsets(cache: Path) -> list[Synset]:
    """Return all synsets in the order of the files noun, verb, adjective, adverb.

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    source = fetch(WORDNET, cache) / "usr/share/wordnet"
    return [synset for name in _FILES for synset in parse_synsets((source / name).read_text("latin1"), name)]


def parse_synsets(content: str, what: str) -> Iterator[Synset]:
    """Read the synsets of one data file (format: the manual page wndb); `what` names it in errors.

    Raises:
        InputError: a line is no synset.
    """
    for number, line in enumerate(content.splitlines(), 1):
        if line.startswith("  "):  # the licence, at the top of each file
            continue
        try:
            data, gloss = line.split(" | ", 1)
            offset, label, part, count, *rest = data.split(" ")
            words = tuple(_spoken(word) for word in rest[: 2 * int(count, 16) : 2])
            yield Synset(offset + part, int(label), words, gloss.strip())
        except ValueError as error:
            raise InputError(f"{what}: line {number} is no synset: {error}") from error


def _spoken(word: str) -> str:
    """Return a word as written in text: no underscores, and no syntactic marker like (p) after an adjective."""
    return word.split("(")[0].replace("_", " ")


def _table(synsets: list[Synset]) -> pa.Table:
    return pa.table(
        {
            "id": [synset.id for synset in synsets],
            "text": [synset.gloss for synset in synsets],
            "label": np.array([synset.label for synset in synsets], np.int64),
            "class_name": [CLASSES[synset.label] for synset in synsets],
        }
    )
