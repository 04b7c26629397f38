"""What is embedded is what was never embedded before, and everything else comes back as it was."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_itl.embedding import cached, segments, store
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.embedding.encodings import CachedEncodings
from ray_itl.errors import InputError
from ray_itl.io.temporary import temporary_folder
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.encoding import RawColumn, encoding_of
from ray_itl.sources.open import open_source
from ray_itl.sources.parquet import ParquetSource
from tests import user_encoders
from tests.user_encoders import Words


@pytest.fixture(autouse=True)
def _nothing_asked() -> Iterator[None]:
    user_encoders.asked.clear()
    yield
    user_encoders.asked.clear()


def encoder(folder: Path, name: str = "words", **options: Any) -> CachedEncodings:
    made = f"tests.user_encoders:{name}"
    return CachedEncodings(EncoderSettings(made, options, cache=str(folder / "kept")), "cpu")


def opened(folder: Path, pool: Any, condition: str | None = None, name: str = "words", **options: Any) -> PoolSource:
    raw = RawColumn(encoder(folder, name, **options), "text", "pool.text_column")
    return open_source(pool, id_column=None, condition=condition, raw=raw)


def write(folder: Path, files: dict[str, list[Any]], row_group_size: int = 7) -> Path:
    """Write files of texts, in place of any that are there."""
    pool = folder / "pool"
    pool.mkdir(exist_ok=True)
    for path in pool.iterdir():
        path.unlink()
    for name, texts in files.items():
        table = pa.table({"text": pa.array(texts, pa.string()), "number": np.arange(len(texts))})
        pq.write_table(table, pool / f"{name}.parquet", row_group_size=row_group_size)
    return pool


def texts(first: int, stop: int) -> list[str]:
    return [f"word{number} word{number % 7} word{number % 11}" for number in range(first, stop)]


def read(source: PoolSource, bad: BadRows | None = None) -> np.ndarray:
    return np.concatenate([rows for _, rows in source.batches(0, source.num_rows, bad)])


def embedded_by(source: PoolSource) -> int:
    """Read everything; return how many rows were embedded for that, after all have been compared."""
    user_encoders.asked.clear()
    rows = read(source)
    asked = len(user_encoders.asked)
    column = source.take(np.arange(source.num_rows), ["text"]).column("text").to_pylist()
    np.testing.assert_array_equal(rows, Words()(column))
    encoding = encoding_of(source)
    assert encoding is not None
    assert encoding.num_embedded == asked
    user_encoders.asked.clear()
    return asked


def test_files_that_are_renamed_rewritten_and_appended_to_cost_what_is_new(tmp_path: Path) -> None:
    assert embedded_by(opened(tmp_path, write(tmp_path, {"a": texts(0, 40), "b": texts(40, 60)}))) == 60
    assert embedded_by(opened(tmp_path, write(tmp_path, {"a": texts(0, 40), "b": texts(40, 60)}))) == 0
    assert embedded_by(opened(tmp_path, write(tmp_path, {"z": texts(0, 40), "c": texts(40, 60)}))) == 0
    assert embedded_by(opened(tmp_path, write(tmp_path, {"z": texts(0, 45), "c": texts(30, 70)}))) == 10
    shuffled = np.random.default_rng(0).permutation(texts(0, 75)).tolist()
    assert embedded_by(opened(tmp_path, write(tmp_path, {"one": shuffled}, row_group_size=20))) == 5
    assert embedded_by(opened(tmp_path, pa.table({"text": shuffled[::-1]}))) == 0


def test_another_encoder_embeds_everything_anew(tmp_path: Path) -> None:
    pool = write(tmp_path, {"a": texts(0, 10)})
    embedded_by(opened(tmp_path, pool))
    np.testing.assert_array_equal(read(opened(tmp_path, pool, salt="s")), Words("s")(texts(0, 10)))
    assert embedded_by(opened(tmp_path, pool)) == 0


def test_equal_rows_are_embedded_once(tmp_path: Path) -> None:
    assert embedded_by(opened(tmp_path, write(tmp_path, {"a": texts(0, 5) * 40, "b": texts(3, 8) * 9}))) == 8


def test_rows_that_a_filter_leaves_out_are_not_embedded(tmp_path: Path) -> None:
    pool = write(tmp_path, {"a": texts(0, 40), "b": texts(100, 130)})
    assert embedded_by(opened(tmp_path, pool, "number < 10")) == 20
    assert embedded_by(opened(tmp_path, pool, "number < 12")) == 4
    assert embedded_by(opened(tmp_path, pool, "number >= 5")) == 46
    assert embedded_by(opened(tmp_path, pa.table({"text": texts(0, 9), "n": range(9)}), "n > 3")) == 0


def test_a_row_is_the_same_however_it_is_read(tmp_path: Path) -> None:
    source = opened(tmp_path, write(tmp_path, {"a": texts(0, 40), "b": texts(40, 60)}))
    positions = np.array([3, 17, 39, 40, 58])
    some = np.concatenate([rows for _, rows in source.batches_at(positions)])
    np.testing.assert_array_equal(source.embeddings(positions[::-1]), some[::-1].astype(np.float64))
    everything = read(source)
    np.testing.assert_array_equal(everything[positions], some)
    ids = np.concatenate([ids for ids, _ in source.batches(35, 45)])
    assert ids.tolist() == [*(f"a.parquet:{row}" for row in range(35, 40)), *(f"b.parquet:{row}" for row in range(5))]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in source.batches(35, 45)]), everything[35:45])
    assert source.embeddings(np.empty(0, dtype=np.int64)).shape == (0, user_encoders.DIM)


@settings(max_examples=40)
@given(st.data())
def test_any_cut_of_any_pool_gives_its_rows(data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(["a", "b", "c d", "e"]) | st.text("xyz", min_size=1, max_size=3), max_size=40)
    rows = data.draw(words.filter(bool))
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    with temporary_folder("cut") as folder, pytest.MonkeyPatch.context() as patch:
        for name, most in (("_BLOCK_ROWS", 20), ("_FIRST_ROWS", 3), ("_MOST_ROWS", 9), ("_FOUND_ROWS", 8)):
            patch.setattr(cached, name, data.draw(st.integers(1, most)))
        patch.setattr(cached, "_BATCH_BYTES", 4 * user_encoders.DIM * data.draw(st.integers(1, 5)))
        patch.setattr(store, "_SEGMENT_BYTES", segments.kept_bytes(data.draw(st.integers(1, 12)), user_encoders.DIM))
        source = opened(folder, write(folder, {"a": rows[:17], "b": rows[17:]}))
        expected = Words()(rows)
        for first, last in ((start, stop), (0, len(rows))):
            found = [batch for _, batch in source.batches(first, last)]
            np.testing.assert_array_equal(np.concatenate([expected[:0], *found]), expected[first:last])


def test_bad_rows_are_noted_each_with_its_reason(tmp_path: Path) -> None:
    rows: list[Any] = [*texts(0, 10), None, " ", "infinite", *texts(5, 15), "infinite"]
    for _ in range(2):  # the second time all others are known
        source, bad = opened(tmp_path, write(tmp_path, {"a": rows})), BadRows()
        found = read(source, bad)
        assert bad.positions.tolist() == [10, 11, 12, 23]
        reasons = [row.reason.partition(";")[0] for row in bad]
        assert reasons[:2] == ["column 'text' is null", "column 'text' is blank"]
        assert reasons[2:] == ["its embedding is not finite"] * 2
        assert np.isnan(found[bad.positions]).all()
        sound = np.delete(np.arange(24), bad.positions)
        np.testing.assert_array_equal(found[sound], Words()([rows[row] for row in sound]))
    with pytest.raises(InputError, match=r"file 'a.parquet', row 10 .*column 'text' is null"):
        read(opened(tmp_path, tmp_path / "pool"))


def test_a_source_pickles_without_its_model(tmp_path: Path) -> None:
    source = opened(tmp_path, write(tmp_path, {"a": texts(0, 30)}))
    assert embedded_by(source) == 30
    copy = pickle.loads(pickle.dumps(source))
    assert embedded_by(copy) == 0
    assert len(pickle.dumps(source)) < 5000


def test_of_files_that_are_cut_out_rows_are_the_same(tmp_path: Path) -> None:
    source = opened(tmp_path, write(tmp_path, {"a": texts(0, 20), "b": texts(20, 50)}))
    assert isinstance(source, ParquetSource)
    assert embedded_by(source.only(source.manifest.files[1:])) == 30
    assert embedded_by(opened(tmp_path, tmp_path / "pool")) == 20


def test_the_encoder_decides_what_a_pool_is(tmp_path: Path) -> None:
    pool = write(tmp_path, {"a": texts(0, 5)})
    manifests = []
    for options in ({}, {"salt": "s"}):
        source = opened(tmp_path, pool, **options)
        assert isinstance(source, ParquetSource)
        manifests.append(source.manifest)
    assert manifests[0].fingerprint != manifests[1].fingerprint
    assert type(manifests[0]).from_json(manifests[0].to_json()).fingerprint == manifests[0].fingerprint


def _embed_and_die(folder: Path, rows: int) -> None:
    cached._MOST_ROWS, store._SEGMENT_S = 64, 0.0
    read(opened(folder, folder / "pool", name="deadly", kill_after=rows))


def test_a_killed_process_loses_a_chunk(tmp_path: Path) -> None:
    pool = write(tmp_path, {"a": texts(0, 400)}, row_group_size=100)
    process = multiprocessing.get_context("spawn").Process(target=_embed_and_die, args=(tmp_path, 300))
    process.start()
    process.join(120)
    assert process.exitcode == -9
    user_encoders.asked.clear()
    read(opened(tmp_path, pool, name="deadly", kill_after=300))
    assert len(user_encoders.asked) <= 400 - (300 - 64)
