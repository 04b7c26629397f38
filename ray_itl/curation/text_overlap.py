"""Texts that are the same as some others, or share many of their words in a row: n-grams.

The other texts are few, so that all their n-grams fit an index: what is found is exact, and one read of the many texts
is enough. Rows are looked up by a hash of their words, many at once; the few that are found are then compared word by
word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_SPACE = r"[\s\p{Z}]+"
_NO_WORD = r"[^\p{L}\p{M}\p{N}]+"


class Overlap(NamedTuple):
    """Texts of a batch that are like one of the others."""

    rows: np.ndarray
    """Their numbers, ascending int64."""
    nearest: np.ndarray
    """Numbers of the others, int64: the first of those that are equally near."""
    shares: np.ndarray
    """1 for the same text; else |A n B| / min(|A|, |B|), with A and B the distinct n-grams of the two."""
    same: np.ndarray
    """Whether it is the same text, bool."""


@dataclass(frozen=True)
class TextIndex:
    """The other texts, K of them.

    Texts are the same that differ in case, in white space or in how Unicode composes letters. Words are what stands
    between characters that are neither letters nor digits; a text of fewer than n words has no n-gram.
    """

    texts: pa.Array
    """K texts, null where there is none."""
    ngram: int | None = None
    """n, words in a row; None: only the same texts are looked for."""
    min_share: float = 0.0
    """The least share of n-grams that counts; at least one n-gram must be shared."""

    @cached_property
    def num_short(self) -> int:
        """How many of the texts are too short to have an n-gram."""
        return sum(not grams for grams in self._grams)

    def look_up(self, texts: pa.Array) -> Overlap:
        """Return which of a batch of texts (any of Arrow's types of text; nulls are like nothing) are like another."""
        texts = texts.cast(pa.large_string())
        places = pc.call_function("index_in", [_folded(texts)], pc.SetLookupOptions(self._folded, skip_nulls=True))
        nearest = places.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        same = nearest >= 0
        shares = same.astype(np.float64)
        for row in self._sharing_an_ngram(texts).tolist() if self.ngram is not None else []:
            if not same[row]:
                nearest[row], shares[row] = self._best(_grams(_words_of(texts[row].as_py()), self.ngram or 1))
        like = nearest >= 0
        rows = np.flatnonzero(like)
        return Overlap(rows, self._first[nearest[rows]], shares[rows], same[rows])

    @cached_property
    def _folded(self) -> pa.Array:
        return _folded(self.texts.cast(pa.large_string()))

    @cached_property
    def _first(self) -> np.ndarray:
        """The number of the first text that is the same as each: K int64."""
        seen: dict[str | None, int] = {}
        return np.array([seen.setdefault(text, k) for k, text in enumerate(self._folded.to_pylist())], dtype=np.int64)

    @cached_property
    def _grams(self) -> list[set[tuple[str, ...]]]:
        return [_grams(_words_of(text), self.ngram or 1) for text in self.texts.to_pylist()]

    @cached_property
    def _owners(self) -> dict[tuple[str, ...], list[int]]:
        """n-gram -> the texts that have it."""
        owners: dict[tuple[str, ...], list[int]] = {}
        for k, grams in enumerate(self._grams):
            for gram in grams:
                owners.setdefault(gram, []).append(k)
        return owners

    @cached_property
    def _vocabulary(self) -> pa.Array:
        return pa.array(sorted({word for gram in self._owners for word in gram}), pa.large_string())

    @cached_property
    def _hashes(self) -> np.ndarray:
        """Of all n-grams, ascending uint64."""
        codes = {word: code for code, word in enumerate(self._vocabulary.to_pylist())}
        grams = np.array([[codes[word] for word in gram] for gram in self._owners], dtype=np.int64)
        if not len(grams):
            return np.empty(0, dtype=np.uint64)
        return np.unique(_hash([grams[:, place] for place in range(grams.shape[1])]))

    def _sharing_an_ngram(self, texts: pa.Array) -> np.ndarray:
        """Return the numbers of texts that surely hold all those which share an n-gram."""
        n = self.ngram or 1
        words = pc.call_function("split_pattern", [_spaced(texts)], pc.SplitPatternOptions(" ")).fill_null([])
        found = pc.call_function("index_in", [words.flatten()], pc.SetLookupOptions(self._vocabulary))
        codes = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        if len(codes) < n or not len(self._hashes):
            return np.empty(0, dtype=np.int64)
        offsets = words.offsets.to_numpy().astype(np.int64) - words.offsets[0].as_py()
        row_of = np.repeat(np.arange(len(texts)), np.diff(offsets))
        unknown = np.concatenate([[0], np.cumsum(codes < 0)])
        last = len(codes) - n + 1
        whole = (unknown[n:] == unknown[:last]) & (row_of[n - 1 :] == row_of[:last])
        starts = np.flatnonzero(whole)
        hashes = _hash([codes[starts + place] for place in range(n)])
        return np.unique(row_of[starts[np.isin(hashes, self._hashes)]])

    def _best(self, grams: set[tuple[str, ...]]) -> tuple[int, float]:
        """Return the text that shares most of a text's n-grams, and how many; -1 where none shares enough."""
        shared: dict[int, int] = {}
        for gram in grams:
            for k in self._owners.get(gram, ()):
                shared[k] = shared.get(k, 0) + 1
        shares = {k: count / min(len(grams), len(self._grams[k])) for k, count in shared.items()}
        best = min(shares, key=lambda k: (-shares[k], k), default=-1)
        return (best, shares[best]) if best >= 0 and shares[best] >= self.min_share else (-1, 0.0)


def _regex(texts: Any, pattern: str, replacement: str) -> Any:
    return pc.call_function("replace_substring_regex", [texts], pc.ReplaceSubstringOptions(pattern, replacement))


def _composed(texts: Any) -> Any:
    lower = pc.call_function("utf8_lower", [texts])
    return pc.call_function("utf8_normalize", [lower], pc.Utf8NormalizeOptions("NFC"))


def _folded(texts: Any) -> Any:
    """Return texts without what does not tell them apart."""
    return pc.call_function("utf8_trim_whitespace", [_regex(_composed(texts), _SPACE, " ")])


def _spaced(texts: Any) -> Any:
    """Return texts as their words with one space between them."""
    return pc.call_function("utf8_trim_whitespace", [_regex(_composed(texts), _NO_WORD, " ")])


def _words_of(text: str | None) -> Sequence[str]:
    return () if text is None else _spaced(pa.scalar(text, pa.large_string())).as_py().split()


def _grams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[first : first + n]) for first in range(len(words) - n + 1)}


def _hash(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return a uint64 for each row of n columns of codes."""
    with np.errstate(over="ignore"):
        value = np.zeros(len(columns[0]), dtype=np.uint64)
        for column in columns:
            value = (value ^ column.astype(np.uint64)) * _PRIME
            value ^= value >> np.uint64(29)
    return value
