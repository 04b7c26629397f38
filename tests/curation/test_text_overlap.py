"""Texts like others are those that a plain comparison of sets of words finds."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.curation.text_overlap import TextIndex

_WORDS = st.sampled_from(["ox", "Ox", "sea", "tea", "wind", "näh", "näh"])
_BETWEEN = st.sampled_from([" ", "  ", ", ", "\n", "\u00a0", "-"])


@st.composite
def _texts(draw: st.DrawFn) -> str | None:
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.sampled_from([None, "", " ", "!"]))
    return "".join(draw(_WORDS) + draw(_BETWEEN) for _ in range(draw(st.integers(1, 8))))


def _grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower().replace("a\u0308", "ä"))
    return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}


def _plain(text: str | None) -> str | None:
    return None if text is None else " ".join(text.lower().replace("a\u0308", "ä").replace("\u00a0", " ").split())


def _expected(text: str | None, others: list[str | None], n: int | None, least: float) -> tuple[int, float] | None:
    if text is None:
        return None
    for k, other in enumerate(others):
        if other is not None and _plain(other) == _plain(text):
            return k, 1.0
    best = None
    for k, other in enumerate(others):
        if n is None or other is None:
            continue
        a, b = _grams(text, n), _grams(other, n)
        share = len(a & b) / min(len(a), len(b)) if a and b else 0.0
        if a & b and share >= least and (best is None or share > best[1]):
            best = k, share
    return best


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(_texts(), max_size=6),
    others=st.lists(_texts(), min_size=1, max_size=5),
    ngram=st.sampled_from([None, 1, 2, 3]),
    least=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_what_is_found_is_what_sets_of_words_say(
    texts: list[str | None], others: list[str | None], ngram: int | None, least: float
) -> None:
    found = TextIndex(pa.array(others, pa.string()), ngram, least).look_up(pa.array(texts, pa.string()))
    expected = {row: _expected(text, others, ngram, least) for row, text in enumerate(texts)}
    rows = dict(zip(found.rows.tolist(), zip(found.nearest.tolist(), found.shares.tolist(), strict=True), strict=True))
    assert rows == {row: pair for row, pair in expected.items() if pair is not None}


def test_a_question_inside_a_long_text_is_found() -> None:
    question = "what is the boiling point of water at the top of the highest mountain"
    long = f"{'once upon a time ' * 50}{question.upper()}? {'and so on ' * 50}"
    index = TextIndex(pa.array(["short one", question]), 8, 0.5)
    found = index.look_up(pa.array([long, long.replace("BOILING", "melting"), long.replace("MOUNTAIN", "hill")]))
    assert (found.rows.tolist(), found.nearest.tolist(), found.same.any()) == ([0, 2], [1, 1], False)
    assert found.shares == pytest.approx([1.0, 6 / 7])
    assert index.num_short == 1


def test_slices_and_other_types_of_text_are_read() -> None:
    index = TextIndex(pa.array(["b c"], pa.large_string()), 2)
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        texts = pa.array(["b c", "x", "a B c", None], kind).slice(1)
        assert np.array_equal(index.look_up(texts).rows, [1])
