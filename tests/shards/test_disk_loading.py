"""Shards on disk hold what shards in memory hold, find it again, and notice damage, full disks and replaced files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from ray_itl.core.features import FeatureMap, Identity, PriorCovariance, RandomFourier, UnitNorm
from ray_itl.core.shard import PoolShard
from ray_itl.errors import CacheError, InputError
from ray_itl.shards.disk_features import DiskFeatures
from ray_itl.shards.disk_loading import MATRIX, ROWS, CacheOptions, load_disk_shard
from ray_itl.shards.loading import STORAGE_DTYPES, RowRange, load_shard
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.arrays import ArraySource
from ray_itl.sources.columns import Asked
from ray_itl.sources.parquet import ParquetSource
from tests.sources.helpers import names_in, open_pool, pool_table, random_rows, write_pool

DIM, NUM_ROWS = 3, 600
MAPS: list[FeatureMap] = [
    Identity(),
    UnitNorm(),
    PriorCovariance(torch.eye(3, dtype=torch.float64)[:, :2] * 2),
    RandomFourier(6, 0.5, 1),
]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_itl.core.feature_store.chunk_rows_for", lambda _: 37)


@pytest.fixture
def source(tmp_path: Path) -> ParquetSource:
    folder = tmp_path / "pool"
    folder.mkdir()
    write_pool(folder, (250, 350), row_group_size=100)
    return open_pool(folder)


@pytest.fixture
def load(tmp_path: Path, source: ParquetSource) -> Callable[..., PoolShard]:
    def load(start: int = 0, stop: int = NUM_ROWS, feature_map: FeatureMap = MAPS[0], dtype: str = "float32", **more):
        rows = RowRange(source, start, stop, feature_map, STORAGE_DTYPES[dtype])
        return load_disk_shard(rows, CacheOptions("pool", str(tmp_path / "cache"), 1 << 20), **more)

    return load


def assert_same(shard: PoolShard, expected: PoolShard) -> None:
    assert isinstance(shard.features, DiskFeatures)
    everything = torch.arange(expected.num_rows)
    assert torch.equal(shard.features.rows(everything), expected.features.rows(everything))
    assert shard.ids.tolist() == expected.ids.tolist()
    assert torch.equal(shard.norms, expected.norms)
    seen = 0
    for (rows, chunk), (other, part) in zip(shard.features.chunks(), expected.features.chunks(), strict=True):
        assert rows == other
        assert torch.equal(chunk, part)
        seen += len(chunk)
    assert seen == shard.num_rows


@pytest.mark.parametrize("feature_map", MAPS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
def test_a_shard_on_disk_holds_the_rows_of_one_in_memory(load, source, feature_map, dtype) -> None:
    for start, stop in ((0, NUM_ROWS), (249, 251), (130, 517)):
        expected = load_shard(source, start, stop, feature_map, STORAGE_DTYPES[dtype])
        assert_same(load(start, stop, feature_map, dtype), expected)
        assert_same(load(start, stop, feature_map, dtype), expected)


def test_maps_of_other_values_have_other_keys() -> None:
    others = [PriorCovariance(MAPS[2].factor * 3), RandomFourier(6, 0.5, 2), RandomFourier(6, 0.4, 1)]  # type: ignore[attr-defined]
    assert len({m.key for m in [*MAPS, *others]}) == 7


@pytest.mark.parametrize("indices", [[], [5], [599, 0, 3, 4, 5, 3, 1], list(range(599, -1, -1))])
def test_rows_come_in_the_order_asked_for(load, source, indices) -> None:
    wanted = torch.tensor(indices, dtype=torch.int64)
    expected = load_shard(source, 0, NUM_ROWS, MAPS[0]).features.rows(wanted)
    assert torch.equal(load().features.rows(wanted), expected)


def test_a_pass_that_is_broken_off_does_not_spoil_the_next(load, source) -> None:
    shard = load()
    chunks = shard.features.chunks()
    next(chunks)
    chunks.close()
    assert_same(shard, load_shard(source, 0, NUM_ROWS, MAPS[0]))


def test_ids_that_are_strings(tmp_path: Path) -> None:
    rows = random_rows(NUM_ROWS)
    source = ArraySource(rows, [f"säule {i}" for i in range(NUM_ROWS)])
    for _ in range(2):
        what = RowRange(source, 0, NUM_ROWS, Identity(), torch.float32)
        shard = load_disk_shard(what, CacheOptions("text", str(tmp_path)))
        assert_same(shard, load_shard(source, 0, NUM_ROWS, Identity()))


def test_an_entry_is_read_by_others_and_found_without_the_pool(load, tmp_path, source) -> None:
    first = load()
    (entry,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    assert names_in(entry) == ["entry.json", MATRIX, "lock", ROWS]
    stored = load_file(entry / MATRIX)["features"]
    assert torch.equal(stored, first.features.rows(torch.arange(NUM_ROWS)))
    expected = load_shard(source, 0, NUM_ROWS, MAPS[0])
    for path in (tmp_path / "pool").iterdir():
        path.unlink()
    told: list[int] = []
    assert_same(load(on_rows=told.append), expected)
    assert told == [NUM_ROWS]


def cut(entry: Path) -> None:
    os.truncate(entry / MATRIX, (entry / MATRIX).stat().st_size - 1)


def zero(entry: Path) -> None:
    size = (entry / MATRIX).stat().st_size
    os.truncate(entry / MATRIX, size - 4096)
    os.truncate(entry / MATRIX, size)


def other_header(entry: Path) -> None:
    with (entry / MATRIX).open("r+b") as file:
        file.seek(20)
        file.write(b"?")


def spoil_rows(entry: Path) -> None:
    data = bytearray((entry / ROWS).read_bytes())
    data[2000] ^= 255
    (entry / ROWS).write_bytes(data)


def fewer_rows(entry: Path) -> None:
    pq.write_table(pq.read_table(entry / ROWS).slice(0, 100), entry / ROWS)


@pytest.mark.parametrize("damage", [cut, zero, other_header, spoil_rows, fewer_rows])
def test_a_damaged_entry_is_made_again(load, source, tmp_path, damage) -> None:
    load()
    (entry,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    damage(entry)
    assert_same(load(), load_shard(source, 0, NUM_ROWS, MAPS[0]))
    assert len([p for p in (tmp_path / "cache").iterdir() if p.is_dir()]) == 1


def test_bad_rows_leave_nothing_behind(tmp_path: Path) -> None:
    rows = random_rows(NUM_ROWS)
    rows[400, 1] = np.nan
    (tmp_path / "pool").mkdir()
    pq.write_table(pool_table(rows), tmp_path / "pool" / "a.parquet", row_group_size=100)
    source = open_pool(tmp_path / "pool")
    what = RowRange(source, 0, NUM_ROWS, Identity(), torch.float32)
    with pytest.raises(InputError, match=r"a\.parquet.*row 400"):
        load_disk_shard(what, CacheOptions("pool", str(tmp_path / "cache")))
    assert names_in(tmp_path / "cache") == ["lock"]


def test_a_full_disk_is_named_and_leaves_nothing_behind(load, tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(CacheError, match=r"cannot be used \(No space left on device\): free some space.*cache_dir"):
        load()
    assert names_in(tmp_path / "cache") == ["lock"]


def test_rows_of_a_file_that_was_replaced_do_not_enter_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    write_pool(folder, (NUM_ROWS,), row_group_size=100)
    source = ParquetSource(build_manifest([str(folder)], Asked("id", "embedding")))
    pq.write_table(pool_table(random_rows(NUM_ROWS, seed=7)), folder / "part-0.parquet", row_group_size=100)
    what = RowRange(source, 0, NUM_ROWS, Identity(), torch.float32)
    with pytest.raises(InputError, match=r"part-0\.parquet' was replaced"):
        load_disk_shard(what, CacheOptions("pool", str(tmp_path / "cache")))
    assert names_in(tmp_path / "cache") == ["lock"]


def test_a_file_cut_short_in_mid_run_is_an_error_that_names_it(load, tmp_path) -> None:
    shard = load(dtype="float64")
    (entry,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    os.truncate(entry / MATRIX, 8000)
    with pytest.raises(CacheError, match=rf"{MATRIX} cannot be read .*pool\.storage=memory"):
        list(shard.features.chunks())
    with pytest.raises(CacheError, match="cut short"):
        shard.features.rows(torch.tensor([NUM_ROWS - 1]))


def test_without_direct_reads_the_rows_are_the_same(load, source, monkeypatch) -> None:
    def refuse(path: object, flags: int, *rest: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return true_open(path, flags, *rest)  # type: ignore[arg-type]

    true_open = os.open
    monkeypatch.setattr("os.open", refuse)
    assert_same(load(), load_shard(source, 0, NUM_ROWS, MAPS[0]))
