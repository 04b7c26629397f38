"""Shards in memory: arrays are used as they stand, files are read by several threads, and rows are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl import select
from ray_itl.core.feature_store import MemoryFeatures
from ray_itl.core.features import Identity, UnitNorm
from ray_itl.core.linalg import squared_norms
from ray_itl.core.shard import PoolShard
from ray_itl.errors import InputError
from ray_itl.shards import loading
from ray_itl.shards.disk_loading import CacheOptions, load_disk_shard
from ray_itl.shards.loading import RowRange, load_shard
from ray_itl.sources.arrays import ArraySource
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.open import open_source
from tests.sources.helpers import open_pool, write_pool

ROWS = np.random.default_rng(0).standard_normal((500, 24)).astype(np.float32)


def held(shard: PoolShard) -> torch.Tensor:
    """Return the features of a shard in memory, without a copy."""
    assert isinstance(shard.features, MemoryFeatures)
    return shard.features.tensor


def address(shard: PoolShard) -> int:
    return held(shard).data_ptr()


def test_an_array_of_the_storage_type_is_used_as_it_stands() -> None:
    shard = load_shard(ArraySource(ROWS), 100, 300, Identity())
    assert address(shard) == ROWS[100:].ctypes.data
    assert torch.equal(shard.norms, squared_norms(torch.from_numpy(ROWS[100:300])))
    assert shard.ids.tolist() == list(range(100, 300))
    tensor = torch.from_numpy(ROWS.astype(np.float64))
    assert address(load_shard(ArraySource(tensor), 0, 500, Identity(), torch.float64)) == tensor.data_ptr()


def _read_only() -> np.ndarray:
    rows = ROWS.copy()
    rows.flags.writeable = False
    return rows


def _mapped(folder: Path) -> np.ndarray:
    np.save(folder / "rows.npy", ROWS)
    return np.load(folder / "rows.npy", mmap_mode="r")


OTHER_ARRAYS: dict[str, tuple[Callable[[Path], np.ndarray | torch.Tensor], bool]] = {
    "read-only": (lambda _: _read_only(), False),
    "contiguous part": (lambda _: np.concatenate([ROWS, ROWS])[500:], False),
    "of a parameter": (lambda _: torch.nn.Parameter(torch.from_numpy(ROWS.copy())), False),
    "by columns": (lambda _: np.asfortranarray(ROWS), True),
    "every other": (lambda _: np.repeat(ROWS, 2, axis=0)[::2], True),
    "backwards": (lambda _: ROWS[::-1].copy()[::-1], True),
    "misaligned": (lambda _: np.frombuffer(b"-" + ROWS.tobytes(), np.float32, offset=1).reshape(ROWS.shape), True),
    "float64": (lambda _: ROWS.astype(np.float64), True),
    "a file": (_mapped, True),
    "1 x D": (lambda _: ROWS[:, None], False),
}
"""Arrays of the same values, given a folder for files, and whether they are copied."""


@pytest.mark.parametrize("kind", OTHER_ARRAYS)
def test_arrays_of_any_layout_hold_the_same_rows(kind: str, tmp_path: Path) -> None:
    make, is_copied = OTHER_ARRAYS[kind]
    rows = make(tmp_path)
    shard, expected = (load_shard(each, 0, 500, Identity()) for each in (ArraySource(rows), ArraySource(ROWS)))
    assert torch.equal(held(shard), held(expected))
    assert torch.equal(shard.norms, expected.norms)
    given = rows.data_ptr() if isinstance(rows, torch.Tensor) else rows.ctypes.data
    assert (address(shard) == given) != is_copied


def test_half_precision_is_used_as_it_stands_and_widened_exactly() -> None:
    half = ROWS.astype(np.float16)
    assert address(load_shard(ArraySource(half), 0, 500, Identity(), torch.float16)) == half.ctypes.data
    wide = held(load_shard(ArraySource(half), 0, 500, Identity()))
    assert torch.equal(wide, torch.from_numpy(half).float())
    brain = torch.from_numpy(ROWS).bfloat16()
    assert torch.equal(held(load_shard(ArraySource(brain), 0, 500, Identity(), torch.bfloat16)), brain)


def test_arrays_of_another_byte_order_are_refused() -> None:
    with pytest.raises(InputError, match="cast it"):
        ArraySource(ROWS.astype(">f4"))


def test_bad_rows_are_zero_in_a_copy_and_stay_in_the_array() -> None:
    rows = ROWS.copy()
    rows[7, 3], rows[9, 0] = np.nan, np.inf
    before, bad = rows.tobytes(), BadRows()
    shard = RowRange(ArraySource(rows), 0, 500, Identity(), torch.float32).load(bad=bad)
    assert bad.positions.tolist() == [7, 9]
    assert not held(shard)[[7, 9]].any()
    assert shard.norms[[7, 9]].tolist() == [0.0, 0.0]
    assert rows.tobytes() == before


def test_a_norm_beyond_float64_is_no_bad_row() -> None:
    rows = np.full((3, 2), 1e200)
    shard = load_shard(ArraySource(rows), 0, 3, Identity(), torch.float64)
    assert shard.norms.tolist() == [float("inf")] * 3
    assert torch.equal(held(shard), torch.from_numpy(rows))


def test_select_leaves_the_arrays_alone_and_may_be_given_read_only_ones() -> None:
    pool, target = ROWS.copy(), ROWS[:5] + np.float32(0.1)
    pool.flags.writeable = False
    before = pool.tobytes()
    chosen = select(pool, target, 20)
    assert pool.tobytes() == before
    pool.flags.writeable = True
    pool[:] = 0.0  # nothing of a selection looks at it afterwards
    assert chosen.picked_features is not None
    assert torch.equal(chosen.picked_features, torch.from_numpy(ROWS[np.array(chosen.ids, dtype=np.int64)]))


def test_norms_of_an_array_are_summed_by_threads(by_threads: list[int]) -> None:
    told: list[int] = []
    shard = load_shard(ArraySource(ROWS), 3, 500, Identity(), on_rows=told.append)
    assert torch.equal(shard.norms, squared_norms(torch.from_numpy(ROWS[3:])))
    assert told[-1] == 497
    assert max(by_threads) > 5


def test_arrays_are_mapped_by_threads(by_threads: list[int]) -> None:
    shard = load_shard(ArraySource(ROWS), 3, 500, UnitNorm())
    assert torch.equal(held(shard).double(), loading.rows_as_stored(UnitNorm(), ROWS[3:], "float32"))
    assert max(by_threads) > 5


def test_large_matrices_are_written_to_memory_of_their_own() -> None:
    rows = np.repeat(ROWS, 400, axis=0)
    first, second = (load_shard(ArraySource(rows), 0, len(rows), Identity(), torch.float64) for _ in range(2))
    held(first).zero_()
    assert torch.equal(held(second), torch.from_numpy(rows).double())


@pytest.fixture
def by_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Read any number of rows by threads; returns how many pieces each range was read in."""
    monkeypatch.setattr(loading, "_PIECE_BYTES", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    pieces, read = [], loading.read_pieces
    monkeypatch.setattr(loading, "read_pieces", lambda *some: (pieces.append(len(some[0])), read(*some)))
    return pieces


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("feature_map", [Identity(), UnitNorm()], ids=lambda m: type(m).__name__)
def test_rows_read_by_threads_are_those_read_by_one(tmp_path: Path, by_threads, dtype, feature_map) -> None:
    folder, cache = tmp_path / "pool", CacheOptions("pool", str(tmp_path / "cache"), 1 << 20)
    folder.mkdir()
    write_pool(folder, (250, 350, 10), row_group_size=40)
    source = open_pool(folder)
    for start, stop in ((0, 610), (15, 16), (130, 517)):
        told: list[int] = []
        shard = load_shard(source, start, stop, feature_map, dtype, on_rows=told.append)
        on_disk = load_disk_shard(RowRange(source, start, stop, feature_map, dtype), cache)
        batches = list(source.batches(start, stop))
        assert shard.ids.tolist() == on_disk.ids.tolist() == np.concatenate([ids for ids, _ in batches]).tolist()
        rows = loading.rows_as_stored(feature_map, np.concatenate([rows for _, rows in batches]), str(dtype)[6:])
        assert torch.equal(held(shard).double(), rows)
        assert torch.equal(on_disk.features.rows(torch.arange(stop - start)), held(shard))
        assert torch.equal(shard.norms, squared_norms(rows))
        assert torch.equal(on_disk.norms, shard.norms)
        assert told[-1] == stop - start
    assert max(by_threads) > 5


def test_threads_find_all_bad_rows_and_tell_of_the_first_bad_file(tmp_path: Path, by_threads) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    write_pool(folder, (200, 200, 200), row_group_size=50)
    files = sorted(folder.glob("*.parquet"))
    table = pq.read_table(files[1])
    values = table["embedding"].to_pylist()
    values[3], values[150] = None, [float("nan")] * len(values[0])
    column = table.schema.get_field_index("embedding")
    broken = table.set_column(column, "embedding", pa.array(values, table.schema.field(column).type))
    pq.write_table(broken, files[1], row_group_size=50)
    source, bad = open_pool(folder), BadRows()
    shard = RowRange(source, 0, 600, Identity(), torch.float32).load(bad=bad)
    assert bad.positions.tolist() == [203, 350]
    assert not held(shard)[[203, 350]].any()
    for file in files[1:]:
        file.unlink()
    with pytest.raises(InputError, match=files[1].name):
        load_shard(source, 0, 600, Identity())
    assert max(by_threads) > 5


def test_rows_that_meet_a_filter_are_read_by_threads(tmp_path: Path, by_threads) -> None:
    folder = tmp_path / "pool"
    folder.mkdir()
    write_pool(folder, (250, 350), row_group_size=40)
    source = open_source(folder, id_column="id", condition="text like '%1' or id < 13")
    shard = load_shard(source, 0, source.num_rows, Identity())
    batches = list(source.batches(0, source.num_rows))
    assert torch.equal(held(shard), torch.from_numpy(np.concatenate([rows for _, rows in batches])).float())
    assert shard.ids.tolist() == np.concatenate([ids for ids, _ in batches]).tolist()
    assert by_threads == [2]
