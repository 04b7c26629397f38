"""Embeddings are found again by any process, whole or not at all, and go when room is needed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.embedding import store as store_module
from ray_itl.embedding.segments import Places, kept_bytes
from ray_itl.embedding.store import EmbeddingStore, StoreOptions
from ray_itl.errors import CacheError, ConfigError

DIM = 4
IDENTITY = {"encoder": "e"}


def keys_for(numbers: np.ndarray | range) -> np.ndarray:
    """Keys that stand for numbers."""
    low = np.random.default_rng(5).permutation(100_000).astype(np.uint64)[np.asarray(numbers)]
    return np.stack([low, np.asarray(numbers).astype(np.uint64)], axis=1)


def rows_for(numbers: np.ndarray | range) -> np.ndarray:
    return (np.asarray(numbers)[:, None] * 10 + np.arange(DIM)).astype(np.float32)


def opened(folder: Path, limit: int | None = None, **identity: str) -> EmbeddingStore:
    return EmbeddingStore(StoreOptions(str(folder), limit), {**IDENTITY, **identity}, DIM)


def put(store: EmbeddingStore, numbers: np.ndarray | range) -> None:
    """Keep rows that are not kept yet."""
    places = store.find(keys_for(numbers))
    new = np.flatnonzero(places.segments < 0)
    row_of = {tuple(key): row for key, row in zip(keys_for(numbers).tolist(), rows_for(numbers), strict=True)}
    if len(new):
        store.add(places, new, np.array([row_of[tuple(places.distinct[number].tolist())] for number in new]))
    store.flush()


def kept(store: EmbeddingStore, numbers: np.ndarray | range) -> np.ndarray:
    """Which of some numbers are kept, having read and compared those that are."""
    places = store.find(keys_for(numbers))
    there = places.segments[places.number] >= 0
    found = store.read(places, np.flatnonzero(there))
    np.testing.assert_array_equal(found, rows_for(np.asarray(numbers)[there]))
    return np.asarray(numbers)[there]


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def test_rows_are_found_by_another_store_in_any_order(tmp_path: Path) -> None:
    put(opened(tmp_path), range(50))
    put(opened(tmp_path), range(30, 90))
    assert len(segments(tmp_path)) == 2
    wanted = np.random.default_rng(1).permutation(np.repeat(np.arange(120), 2))
    found = kept(opened(tmp_path), wanted)
    assert sorted(set(found.tolist())) == list(range(90))
    assert not len(kept(opened(tmp_path, encoder="other"), range(90)))
    assert (next(tmp_path.glob("*/encoder.json"))).read_text().count('"encoder": "e"') == 1


@given(st.lists(st.integers(0, 20), max_size=30), st.lists(st.integers(0, 20), max_size=30))
def test_places_hold_each_key_once(wanted: list[int], there: list[int]) -> None:
    places = Places(keys_for(np.array(wanted, dtype=np.int64)))
    assert len(places.distinct) == len(set(wanted))
    np.testing.assert_array_equal(places.distinct[places.number], keys_for(np.array(wanted, dtype=np.int64)))
    places.add(3, keys_for(np.array(there, dtype=np.int64)))
    for number, place in zip(wanted, places.number.tolist(), strict=True):
        assert (places.segments[place] == 3) == (number in there)
        if number in there:
            assert there[places.rows[place]] == number


def test_rows_are_read_before_and_after_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_SEGMENT_BYTES", kept_bytes(16, DIM))
    store, numbers = opened(tmp_path), np.arange(100)
    places = store.find(keys_for(numbers))
    for first in range(0, 100, 10):
        fresh = places.number[first : first + 10]
        store.add(places, fresh, rows_for(numbers[first : first + 10]))
        np.testing.assert_array_equal(store.read(places, np.arange(first + 10)), rows_for(numbers[: first + 10]))
    assert len(segments(tmp_path)) == 9  # the last is not written yet
    store.flush()
    np.testing.assert_array_equal(store.read(places, numbers), rows_for(numbers))
    assert len(kept(opened(tmp_path), numbers)) == 100


def test_what_is_old_enough_is_written_though_it_is_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_SEGMENT_S", 0.0)
    store = opened(tmp_path)
    places = store.find(keys_for(range(3)))
    store.add(places, places.number[:2], rows_for(range(2)))
    assert len(kept(opened(tmp_path), range(3))) == 2  # whatever becomes of this process


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(seed: int) -> None:
        numbers = np.random.default_rng(seed).permutation(300)
        for first in range(0, 300, 50):
            put(opened(tmp_path), numbers[first : first + 50])

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept(opened(tmp_path), range(300))) == 300


def test_of_two_that_embed_a_row_the_older_counts(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    both = [store.find(keys_for(range(1))) for store in (first, second)]
    for store, places, value in zip((first, second), both, (1.0, 2.0), strict=True):
        store.add(places, places.number, np.full((1, DIM), value, dtype=np.float32))
        store.flush()
    third = opened(tmp_path)
    assert third.read(third.find(keys_for(range(1))), np.array([0])).max() == 1.0


def test_a_killed_write_leaves_nothing_that_counts(tmp_path: Path) -> None:
    put(opened(tmp_path), range(5))
    (whole,) = segments(tmp_path)
    (torn := whole.with_name(f".{whole.name}.0123abcd.tmp")).write_bytes(whole.read_bytes()[:100])
    (whole.with_name("fff-cut.safetensors")).write_bytes(whole.read_bytes()[:-8])
    (whole.with_name("fff-none.safetensors")).write_bytes(b"")
    assert len(kept(opened(tmp_path), range(9))) == 5
    os.utime(torn, (0, 0))
    opened(tmp_path).find(keys_for(range(1)))
    assert not torn.exists()


def test_a_changed_bit_is_noticed_and_mended_by_the_next_try(tmp_path: Path) -> None:
    put(opened(tmp_path), range(20))
    (path,) = segments(tmp_path)
    content = bytearray(path.read_bytes())
    place = bytes(content).index(rows_for(range(7, 8)).tobytes())
    content[place + 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CacheError, match="was damaged, and is removed: the same command embeds its rows again"):
        kept(opened(tmp_path), range(20))
    put(opened(tmp_path), range(20))
    assert len(kept(opened(tmp_path), range(20))) == 20


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_the_least_recently_used_goes_where_a_limit_is_set(tmp_path: Path) -> None:
    for first in (0, 10, 20):
        put(opened(tmp_path, encoder=str(first)), range(first, first + 10))
    for path, seconds in zip(segments(tmp_path), (9000, 9000, 9000), strict=True):
        age(path, seconds)
    kept(opened(tmp_path, encoder="0"), range(10))  # used just now
    size = segments(tmp_path)[0].stat().st_size
    put(opened(tmp_path, limit=3 * size, encoder="30"), range(30, 40))
    left = [str(number) for number in (0, 10, 20, 30) if len(kept(opened(tmp_path, encoder=str(number)), range(40)))]
    assert "0" in left
    assert "30" in left
    assert len(left) == 3


def test_what_is_in_use_stays_and_there_is_no_room(tmp_path: Path) -> None:
    put(opened(tmp_path), range(10))
    size = segments(tmp_path)[0].stat().st_size
    store = opened(tmp_path, limit=size + 10)
    with pytest.raises(CacheError, match=r"no room for .* raise encoder\.cache_limit"):
        store.check_room(2 * size)
    with pytest.raises(CacheError, match="no room"):
        put(store, range(10, 20))
    assert len(kept(opened(tmp_path), range(10))) == 10
    store.check_limit(1)
    with pytest.raises(ConfigError, match=r"encoder\.cache_limit=.* but the embeddings of 1,000 rows take"):
        store.check_limit(1000)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"set encoder\.cache to a folder that can be written"):
        put(opened(tmp_path / "file"), range(2))


def test_filesystems_that_are_no_mounts_do_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    monkeypatch.setattr(store_module, "open_folder", lambda _: (elsewhere, "kept"))
    put(opened(tmp_path), range(30))
    put(opened(tmp_path), range(20, 50))
    assert len(kept(opened(tmp_path), range(60))) == 50
    assert opened(tmp_path).free_bytes() is None
    assert len(segments(tmp_path / "kept")) == 2
