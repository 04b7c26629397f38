"""Cut documents into passages of sane length, and tell which documents are the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIN_CHARS = 100
MAX_CHARS = 600
_ENOUGH_CHARS = 250
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]?[A-Z0-9])")


@dataclass(frozen=True)
class Passage:
    """A piece of a document. `topic` is a path such as bbc/tech; passages of one document have one topic."""

    id: str
    text: str
    source: str
    topic: str
    document: str


def sentences(paragraph: str) -> list[str]:
    """Split running text at sentence ends, roughly; white space becomes single spaces."""
    spans, start = [], 0
    for match in _SENTENCE_END.finditer(paragraph):
        closing = len(match.group().rstrip())
        spans.append(paragraph[start : match.start() + closing])
        start = match.end()
    spans.append(paragraph[start:])
    return [" ".join(span.split()) for span in spans if span.strip()]


def pack(pieces: Iterable[str]) -> list[str]:
    """Join consecutive pieces (sentences) of one document into passages of 100 to 600 characters.

    A passage is closed once it has 250 characters, or before it would pass 600. Pieces longer than that are cut at
    spaces, and what stays shorter than 100 characters is left out.
    """
    passages, current = [], ""
    for piece in (part for whole in pieces for part in _cut(whole)):
        if len(current) + 1 + len(piece) > MAX_CHARS:
            passages.append(current)
            current = ""
        current = f"{current} {piece}".strip()
        if len(current) >= _ENOUGH_CHARS:
            passages.append(current)
            current = ""
    passages.append(current)
    return [passage for passage in passages if len(passage) >= MIN_CHARS]


def passages_of(pieces: Iterable[str], source: str, topic: str, document: str) -> list[Passage]:
    """Return a document's passages, with ids of the document's name and a count."""
    return [Passage(f"{document}#{number}", text, source, topic, document) for number, text in enumerate(pack(pieces))]


def without_repeats(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages without exact repeats of a text; documents that share a text become one document.

    Whoever splits by document then never has one text, or two editions of an article, on both sides.
    """
    names: dict[str, str] = {}
    first: dict[str, Passage] = {}

    def name(document: str) -> str:
        while document in names:
            document = names[document]
        return document

    for passage in passages:
        earlier = first.setdefault(passage.text, passage)
        ours, theirs = name(passage.document), name(earlier.document)
        if ours != theirs:
            names[ours] = theirs
    return [Passage(kept.id, kept.text, kept.source, kept.topic, name(kept.document)) for kept in first.values()]


def _cut(piece: str) -> list[str]:
    parts = []
    while len(piece) > MAX_CHARS:
        space = piece.rfind(" ", 0, MAX_CHARS + 1)
        end = space if space > 0 else MAX_CHARS
        parts.append(piece[:end])
        piece = piece[end:].lstrip()
    return [*parts, piece] if piece else parts
