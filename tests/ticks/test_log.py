"""Files of a store on a mount and on an object store: whole or not there, created once, and never outside."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.ticks.log import StateStore, UnusableStoreError


@pytest.fixture(params=["local", "uri", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateStore:
    monkeypatch.setattr("ray_itl.ticks.log.SETTLE_S", 0.0)
    locations = {
        "local": str(tmp_path / "s t[a]*te"),
        "uri": (tmp_path / "state").as_uri(),
        "memory": f"fsspec+memory://{tmp_path.name}-{request.node.name.replace('[', '-').strip(']')}",
    }
    return StateStore(locations[request.param])


def test_what_is_written_is_read(store: StateStore) -> None:
    assert store.read("a/b.json") is None
    assert store.names("a") == []
    store.write("a/b.json", b"one")
    store.write("a/b.json", b"two")
    store.write("a/c", b"")
    assert (store.read("a/b.json"), store.read("a/c"), store.names("a")) == (b"two", b"", ["b.json", "c"])


def test_a_file_is_created_once(store: StateStore) -> None:
    assert store.create("log/1", b"first")
    assert not store.create("log/1", b"second")
    assert store.read("log/1") == b"first"
    assert store.names("log") == ["1"]


def test_of_many_that_create_at_once_one_does(tmp_path: Path) -> None:
    for turn in range(20):
        stores = [StateStore(str(tmp_path)) for _ in range(8)]
        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda k, s=stores, t=turn: s[k].create(f"log/{t}", b"%d" % k), range(8)))
        assert made.count(True) == 1
        assert stores[0].read(f"log/{turn}") == b"%d" % made.index(True)


def test_on_an_object_store_a_writer_that_is_overwritten_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked before either wrote: the later one wins, and the earlier one knows when it reads back."""
    location = f"fsspec+memory://{tmp_path.name}-race"
    first, second = StateStore(location), StateStore(location)
    monkeypatch.setattr("ray_itl.ticks.log.time.sleep", lambda _: second.write("log/1", b"second"))
    assert not first.create("log/1", b"first")


def test_a_folder_is_uploaded_and_removed(store: StateStore, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"a" * (9 << 20))
    pq.write_table(pa.table({"x": [1, 2]}), folder / "deep" / "t.parquet")
    store.upload(folder, "runs/1")
    assert store.read("runs/1/a.txt") == b"a" * (9 << 20)
    assert store.read_table("runs/1/deep/t.parquet", ["x"]).column("x").to_pylist() == [1, 2]
    store.remove_folder("runs/1")
    assert store.read("runs/1/a.txt") is None
    with pytest.raises(RunDirectoryError, match=r"cannot read runs/1/deep/t\.parquet"):
        store.read_table("runs/1/deep/t.parquet")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/."])
def test_names_never_lead_outside(store: StateStore, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.read(name),
        lambda: store.write(name, b""),
        lambda: store.create(name, b""),
        lambda: store.remove_folder(name),
    ]
    for call in calls:
        with pytest.raises(RunDirectoryError, match="not a name within"):
            call()


def test_a_location_that_means_nothing_is_named() -> None:
    with pytest.raises(RunDirectoryError, match="nosuch://x") as caught:
        StateStore("nosuch://x")
    assert isinstance(caught.value, ConfigError)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = StateStore(str(tmp_path / "file"))
    with pytest.raises(RunDirectoryError, match=r"cannot create log/1 in .*file"):
        store.create("log/1", b"x")


def test_leftovers_of_killed_writes_go_when_they_are_old(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path))
    store.write("log/a.json", b"whole")
    old, young = tmp_path / "log" / ".a.json.0123abcd.tmp", tmp_path / "log" / ".b.json.0123abce.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.remove_leftovers("log")
    assert {path.name for path in (tmp_path / "log").iterdir()} == {"a.json", young.name}
    store.remove_leftovers("")
    store.remove_leftovers("nosuch")


def test_a_name_that_is_not_utf8_is_none_of_a_state(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path))
    store.write("log/a.json", b"whole")
    (tmp_path / "log" / os.fsdecode(b"\xff\xfe.json")).touch()
    assert store.names("log") == ["a.json"]
    with pytest.raises(UnusableStoreError, match=r"state\.dir: the name .*\\xff' is not UTF-8"):
        StateStore(os.fsdecode(b"/data/\xff"))
