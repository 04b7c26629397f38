"""Picks that nearly repeat an earlier one are counted, and a word is said where they are many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.api import select
from ray_itl.curation import repeats
from ray_itl.curation.repeats import repeats_of, repeats_words
from tests.report.pages import Page

WORDS = "nearly repeat an earlier one"


def counted(picks: np.ndarray, distance: float) -> int:
    """Picks that are nearer than a distance to one before them, one by one."""
    units = picks / np.linalg.norm(picks, axis=1, keepdims=True)
    return sum(any(1 - float(units[k] @ units[j]) < distance for j in range(k)) for k in range(len(picks)))


@given(st.integers(1, 40), st.integers(0, 50), st.sampled_from([1, 7, 64]))
def test_they_are_those_of_the_definition(count: int, seed: int, at_once: int) -> None:
    draw = np.random.default_rng(seed)
    sample = draw.standard_normal((100, 5)) + 1
    picks = sample[draw.integers(0, 100, count)] + draw.choice([0.0, 0.2, 1.0]) * draw.standard_normal((count, 5))
    units = sample / np.linalg.norm(sample, axis=1, keepdims=True)
    mean = np.mean([1 - units[a] @ units[b] for a in range(100) for b in range(a)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_AT_ONCE", at_once)
        found = repeats_of(torch.from_numpy(picks), torch.from_numpy(sample))
    assert found["distance"] == pytest.approx(mean / 20, rel=0.005)
    assert found["picks"] == counted(picks, found["distance"])
    assert found["compared"] == count


def test_only_the_first_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_COMPARED", 6)
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 30))).repeat(2, 1)
    found = repeats_of(rows, rows[:5])
    assert (found["picks"], found["compared"]) == (1, 6)
    assert repeats_words(found).startswith(f"1 of the first 6 {WORDS} (1 - cosine below {found['distance']:g}, ")


@pytest.mark.parametrize("sample", [torch.ones(1, 4), torch.zeros(3, 4), torch.ones(3, 4)])
def test_a_pool_of_one_row_of_zeros_or_of_copies(sample: torch.Tensor) -> None:
    found = repeats_of(torch.eye(4, dtype=torch.float64), sample)
    assert found["picks"] == 0
    assert 0 <= found["distance"] <= 0.05


def test_many_are_warned_of_and_left_out_by_what_is_advised(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    origins = draw.standard_normal((200, 16)).astype(np.float32)
    pool = np.repeat(origins, 5, axis=0) + 0.02 * draw.standard_normal((1000, 16)).astype(np.float32)
    options: dict[str, Any] = {"features": "unit_norm", "relative_noise": 20.0, "run_dir": tmp_path / "run"}
    found = select(pool, origins[:1], 30, **options)
    told = found.metrics["repeats"]
    assert told["picks"] == counted(pool[np.array(found.ids)], told["distance"]) > 15
    (warning,) = (words for words in found.metrics["warnings"] if WORDS in words)
    assert warning == (
        f"Of the picks {repeats_words(told)}: for training they are worth little, and may be learnt by heart. "
        f"selection.min_distance={told['distance']:g} leaves them out."
    )
    page = Page((tmp_path / "run" / "report.html").read_text()).text
    assert warning in page
    assert "Picks beside each other" in page

    apart = select(pool, origins[:1], 30, **{**options, "run_dir": None}, min_distance=told["distance"])
    assert apart.metrics["repeats"] == {**told, "picks": 0}
    for other in (apart, select(origins, origins[:1], 30, features="unit_norm", relative_noise=20.0)):
        assert not any(WORDS in words for words in other.metrics.get("warnings", []))


def test_picks_that_may_come_again_are_not_warned_of() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    found = select(rows, rows[:1], 30, replacement=True, relative_noise=100.0)
    assert found.metrics["repeats"]["picks"] > 10
    assert not any(WORDS in words for words in found.metrics.get("warnings", []))
