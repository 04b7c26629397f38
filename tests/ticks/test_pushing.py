"""Ticks add their picks to one data set, each in a file of its own, once."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError, StorageError
from tests.fake_hub import FakeHub
from tests.ticks.helpers import Growing

PUSH = {"push_to_hub": "me/picks"}


def pushed(hub: FakeHub, tick: str) -> list[int]:
    content = hub.files["me/picks"][f"data/{tick}-00000-of-00001.parquet"]
    return pq.read_table(io.BytesIO(content)).column("id").to_pylist()


def test_a_data_set_grows_with_the_ticks(hub: FakeHub, tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    growing.tick("a", run=PUSH)
    growing.grow(1)
    growing.tick("b", run=PUSH)
    growing.tick("b", run=PUSH)
    assert hub.num_commits == 2
    assert hub.names("me/picks") == ["README.md", *(f"data/{name}-00000-of-00001.parquet" for name in "ab")]
    assert [pushed(hub, "a"), pushed(hub, "b")] == growing.all_picks()
    assert "tick b, beside those before it" in hub.files["me/picks"]["README.md"].decode()
    growing.tick("c", run=PUSH)
    assert len(growing.records()) == 3
    assert hub.num_commits == 2  # nothing new, nothing picked


def test_a_tick_that_is_not_pushed_is_published(hub: FakeHub, tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.grow(0, 1)
    hub.failing = OSError("no route")
    with pytest.raises(StorageError, match=r"tick a is published in .*/state, but not pushed: .*no route"):
        growing.tick("a", run=PUSH)
    assert [record.tick for record in growing.records()] == ["a"]
    hub.failing = None
    growing.tick("a", run=PUSH)
    assert pushed(hub, "a") == growing.all_picks()[0]


def test_rows_that_changed_are_not_pushed(hub: FakeHub, tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    growing.tick("a")
    growing.write(0, growing.pool / "part-00.parquet", seed=77)
    with pytest.raises(InputError, match=r"part-00\.parquet is not what it was when its rows were picked"):
        growing.tick("a", run=PUSH)
    assert hub.files == {}


def test_a_data_set_of_others_is_refused_before_the_work(hub: FakeHub, tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    growing.grow(0)
    hub.files["me/picks"] = {"data/mine.parquet": b""}
    with pytest.raises(InputError, match="me/picks is there already"):
        growing.tick("a", run=PUSH)
    assert growing.records() == []
