"""Whatever is done to a file's bytes, reading it gives rows or an InputError, and the process lives."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.sources.open import open_source
from tests.sources.damage import overwrite, regrown, small_pools

POOLS = small_pools()
_UNHARMED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # every example overwrites the last one's file
pieces = st.one_of(
    st.binary(min_size=1, max_size=6),
    st.sampled_from([b"\xff" * 8, b"\xff\xff\xff\xff\x07", b"\xff\x7f", b"\0" * 4, b"\x19\xfc", b"\x80" * 9 + b"\x01"]),
)
edits = st.lists(st.tuples(st.floats(0, 1), pieces), min_size=1, max_size=4)
damaged = st.one_of(
    st.builds(overwrite, st.sampled_from(POOLS), edits, st.booleans()),
    st.builds(regrown, st.sampled_from(POOLS), st.floats(0, 1), st.integers(0, 30), st.binary(max_size=30)),
    st.builds(lambda file, stop: file[: int(stop * len(file))], st.sampled_from(POOLS), st.floats(0, 1)),
    st.builds(lambda file, other: file[: len(file) // 2] + other[len(other) // 2 :], *[st.sampled_from(POOLS)] * 2),
)


def read_all(path: Path) -> int:
    source = open_source(path, id_column="id", columns=["text"])
    found = sum(len(ids) for ids, _ in source.batches(0, source.num_rows))
    source.take(np.arange(source.num_rows)[:5], ["text", "embedding"])
    return found


def survives(content: bytes, folder: Path) -> None:
    path = folder / "a.parquet"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read_all(path)


@pytest.mark.parametrize("content", POOLS)
def test_the_files_are_good_before(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert read_all(tmp_path / "a.parquet") == 24


@settings(max_examples=400, suppress_health_check=_UNHARMED)
@given(damaged)
def test_damage(tmp_path: Path, content: bytes) -> None:
    survives(content, tmp_path)


@pytest.mark.slow
@settings(max_examples=20_000, derandomize=False, suppress_health_check=_UNHARMED)
@given(damaged)
def test_a_lot_of_damage(tmp_path: Path, content: bytes) -> None:
    survives(content, tmp_path)
