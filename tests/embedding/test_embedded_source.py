"""Embeddings made while reading: bit for bit the same however rows are asked for."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.features import Identity, UnitNorm
from ray_itl.core.greedy import GreedySelector
from ray_itl.core.pool import LocalPool
from ray_itl.core.posterior import Posterior, Targets
from ray_itl.core.shard import PoolShard
from ray_itl.errors import InputError
from ray_itl.shards.conversion import map_rows
from ray_itl.shards.loading import load_shard
from ray_itl.sources.manifest import plan_shards
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.views import SubsetRows, SubsetSource
from tests.embedding.embedding_helpers import CNN, MLP, embedded, images, raw_table, write_raw
from tests.sources.helpers import read_range

NUM_ROWS = 133


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder: Path):
    return open_raw_rows(folder, id_column="id", columns=["image", "label"])


@pytest.mark.parametrize("spec", [CNN, MLP], ids=lambda spec: spec.name)
@pytest.mark.parametrize("kind", ["features", "gradient"])
def test_rows_are_the_same_however_they_are_asked_for(base, spec, kind) -> None:
    source = embedded(base, spec, kind=kind)
    ids, whole = read_range(source, 0, NUM_ROWS)
    assert ids == list(range(NUM_ROWS))
    assert whole.dtype == source.dtype
    assert len(np.unique(whole, axis=0)) == NUM_ROWS
    for start, stop in [(0, 1), (5, 5), (15, 17), (16, 48), (127, 133), (130, 133)]:
        ids, part = read_range(pickle.loads(pickle.dumps(source)), start, stop)
        assert ids == list(range(start, stop))
        assert np.array_equal(part, whole[start:stop])
    some = np.array([132, 3, 77, 3, 16])
    assert np.array_equal(source.embeddings(some), whole[some].astype(np.float64))
    assert source.embeddings(some[:0]).shape == (0, source.dim)


def test_in_memory_rows_embed_like_those_in_files(base) -> None:
    table = open_raw_rows(raw_table(NUM_ROWS), id_column="id", columns=["image"])
    assert np.array_equal(read_range(embedded(table), 0, NUM_ROWS)[1], read_range(embedded(base), 0, NUM_ROWS)[1])


def tensor_of(shard: PoolShard) -> torch.Tensor:
    return shard.features.rows(torch.arange(shard.num_rows))


def test_shards_hold_the_same_whatever_their_number(base) -> None:
    source = embedded(base)
    whole = load_shard(source, 0, NUM_ROWS, UnitNorm())
    for r in plan_shards(NUM_ROWS, 5):
        shard = load_shard(source, r.start, r.stop, UnitNorm())
        assert torch.equal(tensor_of(shard), tensor_of(whole)[r.start : r.stop])
        assert np.array_equal(shard.ids, whole.ids[r.start : r.stop])


def test_fetched_rows_are_those_of_the_shard(base) -> None:
    """What a resumed run reads of its earlier picks is what the shards hold."""
    source = embedded(base)
    some = np.array([100, 9, 64])
    fetched = map_rows(UnitNorm(), source.embeddings(some)).float()
    assert torch.equal(fetched, tensor_of(load_shard(source, 0, NUM_ROWS, UnitNorm()))[some])


@pytest.mark.parametrize("positions", [np.arange(3, 130, 7), np.setdiff1d(np.arange(NUM_ROWS), [4, 90])])
def test_a_subset_of_embedded_rows_keeps_every_bit(base, positions) -> None:
    source = embedded(base)
    subset = SubsetSource(source, positions)
    ids, rows = read_range(subset, 0, len(positions))
    assert ids == positions.tolist()
    assert np.array_equal(rows, read_range(source, 0, NUM_ROWS)[1][positions])
    assert np.array_equal(subset.embeddings(np.array([2, 0])), source.embeddings(positions[[2, 0]]))


def test_embedding_a_subset_embeds_no_other_row(base, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = np.arange(3, 130, 7)
    source = embedded(SubsetRows(base, positions))
    encoded = []
    embed = source.embedder.embed
    monkeypatch.setattr(
        source.embedder, "embed", lambda inputs, _: encoded.append(len(inputs["pixels"])) or embed(inputs)
    )
    ids, rows = read_range(source, 0, len(positions))
    assert ids == positions.tolist()
    assert sum(encoded) == len(positions)
    np.testing.assert_allclose(rows, embedded(base).embeddings(positions), rtol=1e-4, atol=1e-6)
    assert source.take(np.array([1]), ["label"]).column(0).to_pylist() == [10 % 4]
    assert source.locate(np.array([8]))[1].tolist() == [positions[8] - 53]


def test_selections_are_those_on_the_stored_embeddings(base) -> None:
    source = embedded(base)
    rows = torch.from_numpy(source.embeddings(np.arange(NUM_ROWS)))
    targets = Targets.uniform(rows[-10:])
    rule = InformationGain(0.1)
    picks = []
    for shards in (1, 4):
        pool = LocalPool([load_shard(source, r.start, r.stop, Identity()) for r in plan_shards(120, shards)])
        result = GreedySelector(pool, rule, rule.start(Posterior.prior(source.dim), targets)).select(12)
        picks.append([pick.row_id for pick in result.picks])
    assert picks[0] == picks[1]
    assert len(set(picks[0])) == 12


def test_further_columns_come_along(base) -> None:
    batches = list(embedded(base).embed_batches(10, 40, ["label", "image"]))
    assert [(batch.start, len(batch.ids)) for batch in batches] == [(10, 6), (16, 16), (32, 8)]
    labels = np.concatenate([batch.columns.column("label").to_numpy() for batch in batches])
    assert labels.tolist() == [i % 4 for i in range(10, 40)]
    assert batches[0].columns.column_names == ["label", "image"]


def test_a_row_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    write_raw(tmp_path)
    bad = images(40)
    bad[21, 3] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(bad.reshape(-1)), 64)
    pq.write_table(pa.table({"id": range(1000, 1040), "image": column, "label": [0] * 40}), tmp_path / "part-1.parquet")
    source = embedded(open_raw_rows(tmp_path, id_column="id", columns=["image"]))
    with pytest.raises(
        InputError, match=r"^file 'part-1\.parquet', row 21 .*column 'image': a number is NaN"
    ) as caught:
        read_range(source, 0, source.num_rows)
    assert str(caught.value).count("counting from 0") == 1


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "image": ["a", "b"]}), tmp_path / "a.parquet")
    source = embedded(open_raw_rows(tmp_path, id_column="id", columns=["image"]))
    with pytest.raises(InputError, match=r"a\.parquet.*column 'image'.*string"):
        read_range(source, 0, 2)


def test_embeddings_that_are_not_finite_are_refused(base, monkeypatch: pytest.MonkeyPatch) -> None:
    source = embedded(base)
    embed = source.embedder.embed

    def diverged(inputs, _):
        rows = embed(inputs)
        rows[2, 1] = np.inf
        return rows

    monkeypatch.setattr(source.embedder, "embed", diverged)
    with pytest.raises(InputError, match=r"part-0\.parquet', row 18 .*not finite.*learning_rate"):
        list(source.batches(17, 30))


def test_files_of_different_types_are_joined_or_named(tmp_path: Path) -> None:
    write_raw(tmp_path, (10,))
    wide = pa.array(images(6).astype(np.float64).reshape(-1).tolist(), pa.float64())
    column = pa.FixedSizeListArray.from_arrays(wide, 64)
    pq.write_table(pa.table({"id": range(10, 16), "image": column}), tmp_path / "part-1.parquet")
    source = embedded(open_raw_rows(tmp_path, id_column="id", columns=["image"]))
    assert read_range(source, 0, 16)[0] == list(range(16))
    pq.write_table(pa.table({"id": range(10, 16), "image": ["x"] * 6}), tmp_path / "part-1.parquet")
    with pytest.raises(InputError, match=r"'part-1.parquet': column 'image' is of type string, but in file 'part-0"):
        open_raw_rows(tmp_path, id_column="id", columns=["image"])


def test_the_fingerprint_tells_pools_apart(base) -> None:
    first = embedded(base).fingerprint("a")
    assert embedded(base).fingerprint("a") == first
    others = [embedded(base).fingerprint("b"), embedded(base, seed=1).fingerprint("a")]
    assert len({first, *others}) == 3
