"""The embedding suite lets all take turns on the same texts."""

from pathlib import Path

import pytest

from benchmarks.embedding import BEFORE, OURS, OURS_EXACT, embedding_table, run_embedding
from benchmarks.settings import EmbeddingBenchmarkSettings
from tests.training.tiny_models import sentence_folder


def test_all_take_turns_and_give_the_same(tmp_path: Path) -> None:
    settings = EmbeddingBenchmarkSettings(
        num_rows=30, model=sentence_folder(tmp_path), batch_sizes=[2, 8], tried=0.5, repeats=1
    )
    said: list[str] = []
    texts = [f"text {'abc ' * (number % 7)}" for number in range(40)]
    found = run_embedding(settings, 0, tmp_path, said.append, texts)
    assert [result.name for result in found[:3]] == [OURS, OURS_EXACT, BEFORE]
    assert found[3].name.startswith("encode(), ")
    assert found[1].largest == pytest.approx(0, abs=1e-6)
    assert all(result.largest < 1e-3 for result in (found[0], found[3]))
    assert sum("encode() in" in line for line in said) in (2, 4)
    table = embedding_table(found, settings)
    assert "30 texts by one model" in table
    assert f"| {OURS} | " in table
    assert table.count("\n") == 7
