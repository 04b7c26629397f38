"""A pool of real English passages of mixed origin: dictionary entries, books, news and mails."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.datasets.cache import data_folder
from ray_itl.datasets.corpora import bbc_passages, brown_passages, mail_passages
from ray_itl.datasets.minilm import embed_texts
from ray_itl.datasets.tables import Say, silent, write_rows
from ray_itl.datasets.texts import Passage, without_repeats
from ray_itl.datasets.wordnet import CLASSES, Synset, read_synsets

VERSION = 1


def prepare(cache: Path, say: Say = silent) -> Path:
    """Return the folder with passages.parquet (161,590 rows), written if missing: about an hour of a core.

    Columns: id (text), text (100 to 600 characters; a dictionary entry 10 to 600), source (wordnet, brown, bbc or
    mail), topic (such as bbc/tech, brown/news, mail/spam, wordnet/noun.act), document (split by this one: no text is
    in two documents), embedding (384 x float16: all-MiniLM-L6-v2 of at most 128 tokens, unit norm).

    Sources and licences: see `wordnet` and `corpora`.

    Raises:
        InputError: data or model cannot be had, or transformers is missing (says what to do).
    """
    folder = data_folder(cache, "passages", VERSION)
    output = folder / "passages.parquet"
    if not output.exists():
        texts = folder / "texts.parquet"
        if not texts.exists():
            write_rows(texts, _table(collect(cache)))
            say(f"{texts}: {pq.read_metadata(texts).num_rows} rows")
        embed_texts(cache, pq.read_table(texts), output, say)
        texts.unlink()
    return folder


def collect(cache: Path) -> list[Passage]:
    """Return all passages in a fixed order, without repeats; InputError as for `prepare`."""
    found = bbc_passages(cache) + brown_passages(cache) + mail_passages(cache)
    return without_repeats([*found, *(entry(synset) for synset in read_synsets(cache))])


def entry(synset: Synset) -> Passage:
    """Return a synset as in a dictionary, `words: gloss`, a document of its own."""
    name = f"wordnet/{synset.id}"
    text = f"{', '.join(synset.words)}: {synset.gloss}"
    return Passage(name, text, "wordnet", f"wordnet/{CLASSES[synset.label]}", name)


def _table(passages: list[Passage]) -> pa.Table:
    names = ("id", "text", "source", "topic", "document")
    return pa.table({name: [getattr(passage, name) for passage in passages] for name in names})
