"""Temporary folders go with their process; those of killed ones go with the next, and others' never."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ray_itl.errors import ConfigError, StorageError
from ray_itl.io.temporary import MARK, PREFIX, TemporaryFolder, sweep, temporary_folder
from tests.processes import wait_until

HOLD = """
import sys, time
from pathlib import Path
from ray_itl.io.temporary import TemporaryFolder
folder = TemporaryFolder("pool", Path(sys.argv[1]))
(folder.path / "pool.parquet").write_bytes(b"rows")
(folder.path / "sub").mkdir()
(Path(sys.argv[1]) / "ready").touch()
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _in_tmp_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(PREFIX))


def test_a_folder_goes_with_its_block(tmp_path):
    with temporary_folder("pool") as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").touch()
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []


def test_a_folder_is_left_where_someone_is_to_look_into_it(tmp_path):
    folder = TemporaryFolder("ray")
    folder.leave()
    assert sweep() == []  # this process lives
    assert names(tmp_path) == [folder.path.name]


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_has_is_not(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)])
    try:
        wait_until(lambda: (tmp_path / "ready").exists(), 120)
        (left,) = names(tmp_path)
        assert sweep() == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        with temporary_folder("plan"):  # the next run
            assert left not in names(tmp_path)
    finally:
        process.kill()
        process.wait()
    assert names(tmp_path) == []


def test_others_folders_are_left_alone(tmp_path):
    me = {"host": "elsewhere", "pid": 1, "started": "1"}
    (tmp_path / f"{PREFIX}pool-other-host").mkdir()
    (tmp_path / f"{PREFIX}pool-other-host" / MARK).write_text(json.dumps(me))
    (tmp_path / f"{PREFIX}pool-damaged").mkdir()
    (tmp_path / f"{PREFIX}pool-damaged" / MARK).write_text("{")
    (tmp_path / f"{PREFIX}pool-list").mkdir()
    (tmp_path / f"{PREFIX}pool-list" / MARK).write_text("[1]")
    (tmp_path / f"{PREFIX}ticks-{os.getuid()}-abc").mkdir()  # without a mark, and meant to stay
    (tmp_path / f"{PREFIX}file").touch()
    dead = tmp_path / "unrelated"
    dead.mkdir()
    (dead / MARK).write_text(json.dumps({**me, "host": os.uname().nodename}))
    (tmp_path / f"{PREFIX}link").symlink_to(dead)
    before = sorted(tmp_path.iterdir())
    assert sweep() == []
    assert sorted(tmp_path.iterdir()) == before


def test_a_process_id_that_was_given_anew_is_another_process(tmp_path):
    with temporary_folder("pool") as folder:
        mark = json.loads((folder / MARK).read_text())
    again = tmp_path / f"{PREFIX}pool-again"
    again.mkdir()
    (again / MARK).write_text(json.dumps({**mark, "started": "1"}))
    assert sweep() == [again]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageError), (errno.EROFS, ConfigError)])
def test_a_directory_that_cannot_be_written_is_named(monkeypatch, number, kind):
    monkeypatch.setenv("TMPDIR", "/scratch")

    def refuse(**_: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(kind, match=r"TMPDIR=/scratch"), temporary_folder("pool"):
        pass
