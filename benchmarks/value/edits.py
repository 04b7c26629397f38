"""Light edits of texts, as near-copies in pools have them: words dropped, doubled, swapped, replaced, in capitals."""

from __future__ import annotations

import random
from collections.abc import Callable

VERSION = 1
"""Code that edits otherwise takes another number, and so other files."""
_SHARE = 0.08
"""Of a text's words that are edited; at least one is."""
_OTHER_WORDS = {
    "a": "the",
    "all": "every",
    "also": "too",
    "and": "&",
    "are": "were",
    "big": "large",
    "but": "yet",
    "can": "could",
    "do": "did",
    "for": "to",
    "has": "had",
    "have": "had",
    "if": "when",
    "in": "within",
    "is": "was",
    "it": "this",
    "many": "several",
    "may": "might",
    "more": "further",
    "new": "recent",
    "not": "never",
    "of": "from",
    "on": "upon",
    "or": "and",
    "said": "told",
    "so": "thus",
    "some": "a few",
    "than": "as",
    "that": "which",
    "the": "a",
    "they": "people",
    "this": "that",
    "very": "quite",
    "was": "is",
    "were": "are",
    "which": "that",
    "will": "would",
    "with": "by",
}
_ENDS = ",.;:!?"


def edited(text: str, copy: int, seed: int, name: str) -> str:
    """Return the copy of a text of a number from 1 on, a function of the number, the seed and the text's name.

    Every twelfth word or so is dropped, doubled, swapped with the next, replaced by another of its kind, put into other
    letters, or has its punctuation changed. It differs from the text wherever that has two words or more.
    """
    draw, words = random.Random(f"{seed}/{name}/{copy}"), text.split()
    while " ".join(words) == " ".join(text.split()) and len(words) > 1:
        for _ in range(max(1, round(_SHARE * len(words)))):
            draw.choice(_EDITS)(words, draw.randrange(len(words)), draw)
    return " ".join(words)


def _drop(words: list[str], place: int, draw: random.Random) -> None:
    del draw
    if len(words) > 2:
        del words[place]


def _double(words: list[str], place: int, draw: random.Random) -> None:
    del draw
    words.insert(place, words[place])


def _swap(words: list[str], place: int, draw: random.Random) -> None:
    del draw
    following = (place + 1) % len(words)
    words[place], words[following] = words[following], words[place]


def _replace(words: list[str], place: int, draw: random.Random) -> None:
    known = [k for k, word in enumerate(words) if word.lower() in _OTHER_WORDS]
    if known:
        place = draw.choice(known)
        words[place] = _OTHER_WORDS[words[place].lower()]


def _recase(words: list[str], place: int, draw: random.Random) -> None:
    words[place] = draw.choice([str.upper, str.capitalize, str.lower])(words[place])


def _repunctuate(words: list[str], place: int, draw: random.Random) -> None:
    bare = words[place].rstrip(_ENDS)
    words[place] = f"{bare}{draw.choice(['', ',', '.', ' -'])}" if bare else words[place]


_EDITS: tuple[Callable[[list[str], int, random.Random], None], ...] = (
    *(_drop, _double, _swap, _replace),
    *(_recase, _repunctuate),
)
