from pathlib import Path

import numpy as np
import pytest

from benchmarks.value import corpus as module
from benchmarks.value.corpus import SOURCES, Corpus
from benchmarks.value.settings import RESERVED
from ray_itl.errors import InputError
from tests.benchmarks.value.passages import corpus, embed, table


def silent(line: str) -> None:
    del line


def documents_of(texts: list[str]) -> set[str]:
    rows = table()
    known = dict(zip(rows["text"].to_pylist(), rows["document"].to_pylist(), strict=True))
    return {known[text] for text in texts}


def test_no_document_is_in_tests_and_pool() -> None:
    own = corpus()
    tests = own.tests(0, RESERVED)
    held_out = documents_of([test.text for test in tests])
    assert len(held_out) == len(tests) == 3 * RESERVED  # each of another document
    clean = own.clean()
    assert not held_out & documents_of(clean.texts.to_pylist())
    assert len(clean.rows) == len(table()) - own.num_of_documents == 3 * 3 * 2


def test_tests_are_a_function_of_seed_source_and_number() -> None:
    some = corpus().tests(20, 5)
    assert [test.name for test in some[:5]] == [f"bbc-{number}" for number in range(20, 25)]
    assert [test.text for test in some if test.source == "mail"] == [
        test.text for test in corpus().tests(18, 7, ("mail",))[2:]
    ]
    assert [test.text for test in some] != [test.text for test in corpus(seed=1).tests(20, 5)]
    assert np.allclose(np.linalg.norm([test.target for test in some], axis=1), 1)


def test_rows_that_are_nearly_equal_to_a_test_are_left_out() -> None:
    own = corpus(leak=0.9)
    targets = np.array([test.target for test in own.tests(0, RESERVED)])
    clean = own.clean()
    assert own.num_leaks > 0
    assert (clean.rows @ targets.T).max() < 0.9
    assert len(clean.rows) + own.num_leaks == len(corpus().clean().rows)


def test_too_few_documents_are_an_error() -> None:
    with pytest.raises(InputError, match="of mail there are 50 documents"):
        Corpus(table().slice(0, 2 * (2 * (RESERVED + 3) + 50)), 0, 1.0)


def test_an_edited_pool_has_rows_as_they_are_and_copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_embedded", embed)
    own = corpus()
    pool = own.edited(10, 5, tmp_path, silent)
    origins, counts = np.unique(pool.origins, return_counts=True)
    assert len(origins) == 10
    assert 1 < counts.max() <= 5
    texts, originals = pool.texts.to_pylist(), set(table()["text"].to_pylist())
    assert [text in originals for text in texts] == (pool.copies == 0).tolist()
    for origin in origins:
        assert pool.copies[pool.origins == origin].tolist() == list(range((pool.origins == origin).sum()))
        like = pool.rows[pool.origins == origin] @ pool.rows[(pool.origins == origin) & (pool.copies == 0)][0]
        assert like.min() > 0.9
    again = own.edited(10, 5, tmp_path, silent)
    assert again.texts.equals(pool.texts)
    assert np.array_equal(again.rows, pool.rows)
    with pytest.raises(InputError, match="19 rows are asked for, but the clean pool has 18"):
        own.edited(19, 2, tmp_path, silent)


def test_fewer_copies_are_among_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_embedded", embed)
    own = corpus()
    tests = own.tests(0, 1)
    pool = own.around(tests, 4, 6, tmp_path, silent)
    near = {row for test in tests for row in np.argsort(-(own.clean().rows @ test.target), kind="stable")[:4]}
    assert len(set(pool.origins)) == len(near)
    one, three = pool.up_to(1), pool.up_to(3)
    assert len(one.rows) * 6 == len(three.rows) * 2 == len(pool.rows)
    assert set(one.texts.to_pylist()) < set(three.texts.to_pylist()) < set(pool.texts.to_pylist())
    assert np.array_equal(own.around(tests, 4, 3, tmp_path, silent).rows, three.rows)


def test_the_natural_pool_has_texts_as_often_as_they_come() -> None:
    own = corpus()
    free = own.clean().texts.to_pylist()
    held_out = own.tests(0, 1)[0].text
    pool = own.natural([free[3], free[1], held_out, free[3], "unknown", free[3]])
    assert pool.texts.to_pylist() == [free[3], free[1], free[3], free[3]]
    assert pool.copies.tolist() == [0, 0, 1, 2]
    assert pool.origins[0] == pool.origins[2] == pool.origins[3] != pool.origins[1]
    assert set(SOURCES) == {"bbc", "brown", "mail"}
