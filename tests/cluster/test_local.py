"""A Ray of this machine's own finds a place for its files and its shared memory, and says where. Starts none."""

import json
import os
from pathlib import Path

import pytest

from ray_itl.cluster import local
from ray_itl.cluster.local import candidate_folders, fits_sockets, make_folder, store_options
from ray_itl.errors import ConfigError, StorageError
from ray_itl.io.temporary import MARK, TemporaryFolder

MIB = 2**20


def test_sockets_have_short_paths():
    assert fits_sockets(Path("/tmp"))
    assert not fits_sockets(Path("/tmp/slurm_jobdir/1355700/tmp.t0016/user-someone"))
    assert not fits_sockets(Path("/é" * 20))  # bytes count


def test_the_users_choice_comes_first(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/scratch")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    assert candidate_folders()[0] == Path("/scratch")
    monkeypatch.setenv("RAY_TMPDIR", "/fast")
    assert candidate_folders()[:3] == [Path("/fast"), Path("/scratch"), Path("/tmp")]


@pytest.fixture
def short(monkeypatch, tmp_path) -> Path:
    """A folder whose sockets fit, wherever the tests' folders are."""
    monkeypatch.setattr(local, "fits_sockets", lambda folder: "long" not in folder.name)
    folder = tmp_path / "short"
    folder.mkdir()
    return folder


def test_a_folder_is_made_and_only_a_detour_is_said(short):
    said: list[str] = []
    made = make_folder([short], said.append)
    assert made.path.parent == short
    assert said == []
    made.remove()
    long = short.parent / "long"
    long.mkdir()
    made = make_folder([long, short.parent / "missing", short], said.append)
    made.remove()
    assert said[0].startswith(f"Ray keeps its files in {short}, since {long} is too long a path for Ray's sockets")


def test_no_folder_at_all_names_the_variable(short, monkeypatch):
    with pytest.raises(ConfigError, match=r"too long a path.*set TMPDIR"):
        make_folder([short.parent / "long"], lambda _: None)

    def full(*_: object) -> TemporaryFolder:
        raise StorageError(f"the folder {short} cannot be written at the moment: once")

    monkeypatch.setattr(local, "TemporaryFolder", full)
    with pytest.raises(StorageError, match=r"cannot be written at the moment.*set TMPDIR"):
        make_folder([short], lambda _: None)


@pytest.mark.parametrize(
    ("asked", "shared", "on_disk"),
    [(None, 64 * MIB, True), (None, 0, True), (None, 2**30, False), (2**30, 512 * MIB, True), (2**30, 2**30, False)],
)
def test_shared_memory_that_is_too_small_is_not_used(asked, shared, on_disk, tmp_path):
    options = store_options(asked, shared, tmp_path)
    assert ("_plasma_directory" in options) == on_disk
    assert options["object_store_memory"] == (asked or (100 * MIB if on_disk else None))


def test_the_folder_bears_the_mark_of_this_process(short):
    made = make_folder([short], lambda _: None)
    assert json.loads((made.path / MARK).read_text())["pid"] == os.getpid()
    made.remove()
    assert list(short.iterdir()) == []
