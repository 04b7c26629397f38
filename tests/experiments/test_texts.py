"""Passages have sane lengths, lose little text, and documents that share text are one."""

from hypothesis import given
from hypothesis import strategies as st

from ray_itl.experiments.texts import MAX_CHARS, MIN_CHARS, Passage, pack, passages_of, sentences, without_repeats

PIECES = st.lists(st.text("abc ", min_size=1, max_size=1500).map(lambda text: " ".join(text.split())), max_size=12)


def test_sentences_end_where_a_reader_would_say_so() -> None:
    text = 'He said "no."  Then 5 men\nleft. "Why?" she asked. It cost $1.5 m. and more.'
    assert sentences(text) == ['He said "no."', "Then 5 men left.", '"Why?" she asked.', "It cost $1.5 m. and more."]
    assert sentences(" \n ") == []


@given(PIECES)
def test_passages_have_sane_lengths(pieces: list[str]) -> None:
    passages = pack(pieces)
    assert all(MIN_CHARS <= len(passage) <= MAX_CHARS for passage in passages)
    text, position = " ".join(piece for piece in pieces if piece).replace(" ", ""), 0
    for passage in passages:  # every passage is a stretch of the text, in order
        position = text.index(passage.replace(" ", ""), position) + len(passage.replace(" ", ""))


def test_sentences_are_joined_until_there_is_enough() -> None:
    assert pack(["a" * 120, "b" * 140, "c" * 260, "d" * 90]) == ["a" * 120 + " " + "b" * 140, "c" * 260]
    assert pack(["a" * 200, "b" * 500]) == ["a" * 200, "b" * 500]
    assert pack(["word " * 200]) == [("word " * 120).strip(), ("word " * 80).strip()]
    assert pack(["x" * 1300]) == ["x" * 600, "x" * 600, "x" * 100]


def test_passages_are_numbered_within_their_document() -> None:
    passages = passages_of(["a" * 300, "b" * 300], "brown", "brown/news", "brown/ca01")
    assert [passage.id for passage in passages] == ["brown/ca01#0", "brown/ca01#1"]


def _passage(document: str, number: int, text: str) -> Passage:
    return Passage(f"{document}#{number}", text, "bbc", "bbc/tech", document)


def test_documents_that_share_a_text_are_one() -> None:
    passages = [
        _passage("a", 0, "shared by a and b"),
        _passage("a", 1, "of a"),
        _passage("b", 0, "shared by a and b"),
        _passage("b", 1, "shared by b and c"),
        _passage("c", 0, "of c"),
        _passage("c", 1, "shared by b and c"),
        _passage("d", 0, "of d"),
    ]
    kept = {passage.id: passage.document for passage in without_repeats(passages)}
    assert kept == {"a#0": "a", "a#1": "a", "b#1": "a", "c#0": "a", "d#0": "d"}


def test_documents_are_joined_through_others() -> None:
    """Two groups meet in a later document, whatever the order."""
    passages = [
        _passage("a", 0, "x"),
        _passage("b", 0, "y"),
        _passage("c", 0, "z"),
        _passage("b", 1, "z"),
        _passage("d", 0, "y"),
        _passage("d", 1, "x"),
    ]
    assert len({passage.document for passage in without_repeats(passages)}) == 1
