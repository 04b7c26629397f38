"""Ids as databases have them go all the way: picked, written, excluded, included, resumed, checked.

They are ordered as the numbers that they are made of, so that the picks are those of a pool of these numbers.
"""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import InputError, select
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import StopAfter
from tests.helpers import Files, clustered
from tests.ticks.helpers import Growing


class Kind(NamedTuple):
    """Ids of one type."""

    arrow: pa.DataType
    stored: Callable[[Any], Any]
    """Of a number, what the column holds."""
    shown: Callable[[Any], int | str]
    held: Callable[[Any], Any]
    """What a caller in Python has."""

    def of(self, numbers: pa.ChunkedArray) -> pa.Array:
        return pa.array([self.stored(number) for number in numbers.to_pylist()], self.arrow)


TOP = 2**63
KINDS = {
    "uint64": Kind(pa.uint64(), lambda k: TOP + k, lambda k: TOP + k, lambda k: TOP + k),
    "uuid": Kind(
        pa.uuid(), lambda k: UUID(int=k << 64).bytes, lambda k: str(UUID(int=k << 64)), lambda k: UUID(int=k << 64)
    ),
    "decimal": Kind(pa.decimal128(38, 0), Decimal, lambda k: k, Decimal),
    "long decimal": Kind(
        pa.decimal128(38, 0), lambda k: Decimal(10**25 + k), lambda k: str(10**25 + k), lambda k: Decimal(10**25 + k)
    ),
    "fixed-size binary": Kind(
        pa.binary(4), lambda k: k.to_bytes(4), lambda k: k.to_bytes(4).hex(), lambda k: k.to_bytes(4)
    ),
    "binary": Kind(pa.binary(), lambda k: k.to_bytes(9), lambda k: k.to_bytes(9).hex(), lambda k: k.to_bytes(9).hex()),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def rewrite(folder: Path, kind: Kind) -> None:
    """Give the files of a folder ids of a kind."""
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.set_column(0, "id", kind.of(table.column("id"))), path, row_group_size=40)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.usefixtures("small_blocks")
@each_kind
def test_a_run_is_explained_resumed_and_verified(files: Files, kind: Kind) -> None:
    changes: dict[str, Any] = {"selection": {"n": 20, "explain": True}}
    plain = files.run(files.settings("plain", **changes)).table
    rewrite(files.pool, kind)
    with pytest.raises(InterruptedError):
        files.run(files.settings(**changes), StopAfter(2))
    table = files.run(files.settings(**changes)).table
    assert table.equals(pq.read_table(files.folder / "run" / "selection.parquet"))
    for column in ("id", "nearest_earlier", "runner_up"):
        expected = [None if number is None else kind.shown(number) for number in plain.column(column).to_pylist()]
        assert table.column(column).to_pylist() == expected
    assert verify(VerifySettings(FinishedRun(str(files.folder / "run")))).right
    challengers = pq.read_table(files.folder / "run" / "challengers.parquet").column("id").to_pylist()
    assert set(challengers) <= {kind.shown(number) for number in files.table.column("id").to_pylist()}


@each_kind
def test_ids_handed_over_and_lists_in_files(files: Files, kind: Kind) -> None:
    first = files.run(files.settings(run=None)).ids
    out, there = first[:4], first[4:6]
    target = clustered(12, seed=2)
    plain = select(files.pool, target, 6, exclude=out, include=there, noise_variance=1.0)
    rewrite(files.pool, kind)
    lists = files.folder / "out.parquet", files.folder / "there.parquet"
    for path, numbers in zip(lists, (out, there), strict=True):
        pq.write_table(pa.table({"id": kind.of(pa.chunked_array([numbers]))}), path)
    held = [[kind.held(number) for number in numbers] for numbers in (out, there)]
    shown = [[kind.shown(number) for number in numbers] for numbers in (out, there)]
    for exclude, include in (held, shown, map(str, lists)):
        found = select(files.pool, target, 6, exclude=exclude, include=include, noise_variance=1.0)
        assert found.ids == [kind.shown(number) for number in plain.ids]
        np.testing.assert_array_equal(found.gains, plain.gains)
    with pytest.raises(InputError, match=r"selection\.exclude holds 2.5, but the pool has (int|string) ids"):
        select(files.pool, target, 6, exclude=[2.5])


@each_kind
def test_tables_have_the_same_ids(files: Files, kind: Kind) -> None:
    target = clustered(12, seed=2)
    plain = select(files.table, target, 6)
    table = files.table.set_column(0, "id", kind.of(files.table.column("id")))
    assert select(table, target, 6).ids == [kind.shown(number) for number in plain.ids]


@each_kind
def test_ticks_know_what_they_picked(tmp_path: Path, kind: Kind) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    rewrite(growing.pool, kind)
    growing.tick("2026-01-01")
    growing.write(1, growing.pool / "part-01.parquet")
    part = pq.read_table(growing.pool / "part-01.parquet")
    pq.write_table(part.set_column(0, "id", kind.of(part.column("id"))), growing.pool / "part-01.parquet")
    growing.tick("2026-01-02", selection={"n": 60}, state={"candidates": "all"})
    first, second = growing.all_picks()
    known = {kind.shown(number) for k in (0, 1) for number in range(1000 * k, 1000 * k + growing.rows)}
    assert len({*first, *second}) == 65
    assert {*first, *second} <= known
    assert verify(VerifySettings(FinishedRun(f"{growing.location}/{growing.records()[1].path}"))).right


def test_shards_on_disk_keep_ids(files: Files) -> None:
    rewrite(files.pool, KINDS["uint64"])
    expected = files.run(files.settings(run=None)).ids
    disk: dict[str, Any] = {"pool": {"storage": "disk"}, "cluster": {"cache_dir": str(files.folder / "cache")}}
    for _ in range(2):
        assert files.run(files.settings(run=None, **disk)).ids == expected
    assert all(int(number) >= TOP for number in expected)


def test_a_repeated_id_is_shown_as_it_is(files: Files) -> None:
    target = clustered(12, seed=2)
    ids = [UUID(int=k % 299) for k in range(300)]
    table = files.table.set_column(0, "id", pa.array([each.bytes for each in ids], pa.uuid()))
    with pytest.raises(InputError, match=f"row id '{ids[0]}' occurs more than once"):
        select(table, target, 6)


def test_files_of_different_ids_are_refused(files: Files) -> None:
    path = files.pool / "part-1.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "id", KINDS["binary"].of(table.column("id"))), path)
    with pytest.raises(InputError, match=r"'part-1.parquet' has ids of type bytes where file 'part-0.parquet' has int"):
        select(files.pool, files.target, 5)
