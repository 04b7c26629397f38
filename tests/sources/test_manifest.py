import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.sources.manifest import FileEntry, Manifest, describe_changes, plan_shards


def manifest_of(row_groups: list[list[int]]) -> Manifest:
    files = tuple(
        FileEntry(f"part-{number:03d}.parquet", sum(groups), 100 + number, f"print {number}", tuple(groups))
        for number, groups in enumerate(row_groups)
    )
    return Manifest("", "/pool", ("/pool",), files, "id", "int", "embedding", "float32", 3)


pools = (
    st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6)
    .filter(lambda groups: sum(map(sum, groups)) > 0)
    .map(manifest_of)
)


def rows_of(manifest: Manifest, start: int, stop: int) -> list[tuple[str, int, int]]:
    return [
        (segment.file.path, segment.row_group, row)
        for segment in manifest.segments(start, stop)
        for row in range(segment.first_row, segment.stop_row)
    ]


@given(pools, st.integers(1, 12))
def test_every_row_is_in_one_shard_once_and_in_order(manifest, num_shards):
    every_row = [
        (file.path, group, row)
        for file in manifest.files
        for group, num_rows in enumerate(file.row_groups)
        for row in range(num_rows)
    ]
    shards = manifest.plan(num_shards)
    assert [shard.shard for shard in shards] == list(range(min(num_shards, manifest.num_rows)))
    assert [row for shard in shards for row in rows_of(manifest, shard.start, shard.stop)] == every_row


@given(st.integers(1, 10**9), st.integers(1, 300))
def test_shards_are_never_empty_and_differ_by_one_row_at_most(num_rows, num_shards):
    shards = plan_shards(num_rows, num_shards)
    sizes = [shard.stop - shard.start for shard in shards]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert shards[0].start == 0
    assert shards[-1].stop == num_rows
    assert all(left.stop == right.start for left, right in itertools.pairwise(shards))


@given(pools)
def test_segments_are_never_empty(manifest):
    assert all(0 <= s.first_row < s.stop_row for s in manifest.segments(0, manifest.num_rows))


@given(pools)
def test_json_round_trip(manifest):
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert again.fingerprint == manifest.fingerprint


def test_no_shards_is_an_error():
    with pytest.raises(ConfigError, match="num_shards is 0"):
        manifest_of([[3]]).plan(0)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4)])
def test_range_outside_the_pool(start, stop):
    with pytest.raises(IndexError, match="pool of 3 rows"):
        list(manifest_of([[3]]).segments(start, stop))


def test_fingerprint_ignores_where_the_pool_is_but_not_what_it_holds():
    manifest = manifest_of([[3], [4]])
    moved = dataclasses.replace(manifest, root="bucket/pool", uri="s3://bucket/pool", sources=("bucket/pool",))
    assert moved.fingerprint == manifest.fingerprint
    first, second = manifest.files
    other_file = dataclasses.replace(second, fingerprint="another")
    others = [
        dataclasses.replace(manifest, files=(first, other_file)),
        dataclasses.replace(manifest, files=(first,)),
        dataclasses.replace(manifest, files=(dataclasses.replace(first, path="renamed"), second)),
        dataclasses.replace(manifest, embedding_column="other"),
    ]
    assert len({manifest.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_another_format_is_refused():
    fields = json.loads(manifest_of([[3]]).to_json())
    with pytest.raises(RunDirectoryError, match="format 99"):
        Manifest.from_json(json.dumps({**fields, "format": 99}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "files": [3], "sources": []}'])
def test_a_damaged_manifest_is_refused(text):
    with pytest.raises(RunDirectoryError, match="damaged"):
        Manifest.from_json(text)


def test_changes_are_named():
    before = manifest_of([[3], [4], [5]])
    edited = dataclasses.replace(before.files[0], fingerprint="another")
    added = dataclasses.replace(before.files[0], path="new.parquet")
    after = dataclasses.replace(before, files=(edited, before.files[1], added), dim=7)
    assert describe_changes(before, before) == ""
    assert describe_changes(before, after) == (
        "changed: part-000.parquet; vanished: part-002.parquet; appeared: new.parquet; dim was 3 and is 7"
    )


def test_a_long_list_of_changes_is_cut():
    before = manifest_of([[1]] * 9)
    after = dataclasses.replace(before, files=before.files[:1])
    assert describe_changes(before, after).endswith("part-005.parquet and 3 more")
