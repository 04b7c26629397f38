"""Functions handed over as encoders: known again only where that is certain, never mixed up."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_itl import open_pool, select
from ray_itl.embedding.held_function import HeldFunction
from ray_itl.errors import ConfigError, InputError
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_encoder import texts
from tests.user_encoders import Words

POOL, EXAMPLES = texts(120, 1), texts(10, 2, words=20)
asked: list[str] = []


def embed(values: list[Any]) -> np.ndarray:
    """A function of a module."""
    asked.extend(values)
    return Words()(values)


embed.dim = Words.dim  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked.clear()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("ray_itl-"))


def test_a_function_picks_what_its_factory_picks(tmp_path: Path) -> None:
    expected = select(POOL, EXAMPLES, 8, encoder="tests.user_encoders:words")
    found = select(POOL, EXAMPLES, 8, encoder=embed)
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.gains, expected.gains)
    before = len(asked)
    assert select(POOL, EXAMPLES, 8, encoder=embed).ids == expected.ids
    assert len(asked) == before  # kept, under the name of the function
    assert left(tmp_path) == []


def test_two_lambdas_are_never_mixed_up(tmp_path: Path) -> None:
    one, two = ((lambda values, salt=salt: Words(salt)(values)) for salt in ("", "x"))
    assert HeldFunction(one).name == HeldFunction(two).name
    picks = [select(POOL, EXAMPLES, 8, encoder=each).ids for each in (one, two, one)]
    assert picks[0] == picks[2] != picks[1]
    assert left(tmp_path) == []
    assert not (tmp_path / "cache" / "embeddings").exists()


@pytest.mark.parametrize("version", ["1", ""])
def test_a_version_is_the_word_of_the_author(version: str) -> None:
    count = 0

    def own(values: list[Any]) -> np.ndarray:
        nonlocal count
        count += len(values)
        return Words()(values)

    own.version, own.dim = version, Words.dim  # type: ignore[attr-defined]
    for _ in range(2):
        select(POOL, EXAMPLES, 3, encoder=own)
    assert count == len({*POOL, *EXAMPLES}) * (1 if version else 2)
    assert HeldFunction(own).lasts == bool(version)


def test_what_is_no_function_of_a_module_is_not_known_again() -> None:
    held = [HeldFunction(each) for each in (Words(), Words().__call__, functools.partial(embed), lambda values: values)]
    assert [each.lasts for each in held] == [False] * 4
    assert HeldFunction(embed).lasts
    assert HeldFunction(embed).digest == HeldFunction(embed).digest
    assert HeldFunction(held[0].function).digest != held[0].digest
    assert HeldFunction(embed).name == f"<embed of {__name__} in memory>"


def test_a_loaded_pool_keeps_its_function(tmp_path: Path) -> None:
    own = Words()
    with open_pool(POOL, encoder=own) as pool:
        assert len(left(tmp_path)) == 1
        first = pool.select(EXAMPLES, 5).ids
        assert pool.select(EXAMPLES, 5).ids == first == select(POOL, EXAMPLES, 5, encoder=embed).ids
    assert left(tmp_path) == []


def test_a_run_says_what_embedded_and_is_not_replayed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(f'{{"text": "{text}"}}\n' for text in POOL))
    select(str(pool), str(pool), 4, encoder=embed, run_dir=run)
    assert f"name: <embed of {__name__} in memory>" in (run / "config.yaml").read_text()
    assert select(str(pool), str(pool), 4, encoder=embed, run_dir=run).run_dir == run
    with pytest.raises(InputError, match=r"encoder was in memory \(<embed of .*>\) and is gone"):
        verify(VerifySettings(run=FinishedRun(str(run))))
    with pytest.raises(ConfigError, match=r"changed: encoder"):
        select(str(pool), str(pool), 4, encoder=Words("x"), run_dir=run)


def test_only_functions_that_others_can_find_embed_on_ray() -> None:
    with pytest.raises(
        ConfigError, match=r"encoder=<Words of tests\.user_encoders in memory> is no function of a module"
    ):
        select(POOL, EXAMPLES, 3, encoder=Words(), num_shards=2)
    with pytest.raises(ConfigError, match="encoder is a int: name a model, or hand over a function of a list"):
        select(POOL, EXAMPLES, 3, encoder=3)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(embed)) is embed
