import json
import os
import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import RunDirectoryError
from ray_itl.io.atomic import remove_leftovers, write_atomic, write_json, write_parquet_table
from tests.sources.helpers import names_in


def test_bytes_and_functions(tmp_path):
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "b", lambda file: file.write(b"two"))
    write_atomic(str(tmp_path / "a"), b"three")
    assert (tmp_path / "a").read_bytes() == b"three"
    assert (tmp_path / "b").read_bytes() == b"two"
    assert names_in(tmp_path) == ["a", "b"]


def test_json(tmp_path):
    value = {"gain": 0.1 + 0.2, "name": "é", "list": [1, None]}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_bytes()) == value


def test_json_refuses_what_json_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert names_in(tmp_path) == []


def test_parquet(tmp_path):
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    write_parquet_table(tmp_path / "a.parquet", table)
    assert pq.read_table(tmp_path / "a.parquet").equals(table)


def test_failure_midway_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fail(file):
        file.write(b"half")
        file.flush()
        assert len(names_in(tmp_path)) == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a"]


def test_content_is_on_disk_before_the_name(tmp_path, monkeypatch):
    """The order that survives a power cut: sync the file, then rename, then sync the folder."""
    calls = []
    sync, replace = os.fsync, os.replace

    def watch_sync(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def watch_replace(self, target):
        calls.append("rename")
        replace(self, target)

    monkeypatch.setattr(os, "fsync", watch_sync)
    monkeypatch.setattr("pathlib.Path.replace", watch_replace)
    write_atomic(tmp_path / "a", b"new")
    assert calls == ["file", "rename", "folder"]


def test_missing_folder(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"cannot write .*nowhere/a.*check that .*nowhere exists"):
        write_atomic(tmp_path / "nowhere" / "a", b"")


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(RunDirectoryError, match="cannot write"):
        write_atomic(tmp_path / "a", b"")
    assert names_in(tmp_path) == ["a"]


def test_leftovers_are_old_by_the_clock_of_their_folder(tmp_path, monkeypatch):
    """The clock of this machine may be hours ahead of the server's: a write that goes on is left alone."""
    monkeypatch.setattr("time.time", lambda: 1e10)
    young, old = tmp_path / ".a.json.0123abcd.tmp", tmp_path / ".b.json.0123abcd.tmp"
    young.touch()
    old.touch()
    os.utime(old, (1000, 1000))
    remove_leftovers(tmp_path)
    assert young.exists()
    assert not old.exists()
    remove_leftovers(tmp_path, older_than_s=0.0)
    assert not any(tmp_path.iterdir())
