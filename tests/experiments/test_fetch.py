"""Packages are taken from an archive at hand or from their tool, checked, and kept whole or not at all."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ray_itl.errors import InputError
from ray_itl.experiments.cache import cache_root
from ray_itl.experiments.fetch import Package, Tool, fetch, tree_digest
from tests.experiments.helpers import npm_package, write_files, write_tgz

FILES = {"package/a.txt": b"one", "package/b.txt": b"two"}


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return npm_package(tmp_path, FILES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache" / "archives").mkdir(parents=True)
    return tmp_path / "cache"


def _command(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of this name first on the path."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_archive_copied_by_hand_is_used(cache: Path, package: Package) -> None:
    write_tgz(cache / "archives/toy-data-1.0.0.tgz", FILES)
    folder = fetch(package, cache)
    assert (folder / "package/b.txt").read_bytes() == b"two"
    assert _names(cache / "packages") == [folder.name]
    (cache / "archives/toy-data-1.0.0.tgz").unlink()
    assert fetch(package, cache) == folder


def test_the_tool_is_asked_once(tmp_path: Path, cache: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_tgz(tmp_path / "source.tgz", FILES)
    script = f'echo "$@" >> {tmp_path}/asked; cp {archive} toy-data-1.0.0.tgz'
    _command(tmp_path / "bin", "npm", script, monkeypatch)
    assert fetch(package, cache) == fetch(package, cache)
    assert (tmp_path / "asked").read_text() == "pack --ignore-scripts toy-data@1.0.0\n"


def test_a_tool_that_fails_is_quoted(
    tmp_path: Path, cache: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    _command(tmp_path / "bin", "npm", "echo 'npm error 404 toy-data' >&2; exit 1", monkeypatch)
    with pytest.raises(InputError, match=r"toy-data 1\.0\.0.*404 toy-data.*copy the archive to .*archives"):
        fetch(package, cache)
    assert _names(cache / "packages") == []


def test_a_tool_that_leaves_no_archive_is_told(
    tmp_path: Path, cache: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    _command(tmp_path / "bin", "npm", "exit 0", monkeypatch)
    with pytest.raises(InputError, match="it left no file"):
        fetch(package, cache)


def test_a_missing_tool_is_named(cache: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"toy-data 1\.0\.0.*there is no npm here.*archives"):
        fetch(package, cache)


@pytest.mark.parametrize("files", [FILES | {"package/a.txt": b"One"}, {"package/a.txt": b"one"}, {}])
def test_other_content_is_refused(cache: Path, package: Package, files: dict[str, bytes]) -> None:
    write_tgz(cache / "archives/toy-data-1.0.0.tgz", files)
    with pytest.raises(InputError, match=r"not the edition of toy-data 1\.0\.0"):
        fetch(package, cache)
    assert _names(cache / "packages") == []


def test_another_process_may_be_first(cache: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tgz(cache / "archives/toy-data-1.0.0.tgz", FILES)

    def rename(_: Path, target: Path) -> None:
        write_files(target, FILES)
        raise FileExistsError(target)

    monkeypatch.setattr(Path, "rename", rename)
    assert (fetch(package, cache) / "package/a.txt").read_bytes() == b"one"


def test_archives_are_named_as_their_tools_name_them() -> None:
    toy = Package(Tool.NPM, "@scope/toy", "1.0", (), "0" * 64)
    pip, debian = replace(toy, tool=Tool.PIP, name="toy-data.x"), replace(toy, tool=Tool.DEBIAN, version=None)
    assert toy.archive_pattern == "scope-toy-1.0.tgz"
    assert pip.archive_pattern == "toy_data_x-1.0-*.whl"
    assert debian.archive_pattern == "@scope/toy_*.deb"
    assert pip.command[1:5] == ["-m", "pip", "download", "--no-deps"]
    assert "--only-binary=:all:" in pip.command
    assert debian.command == ["apt-get", "download", "@scope/toy"]


def test_the_digest_sees_names_and_content(tmp_path: Path) -> None:
    digests = {
        tree_digest(write_files(tmp_path / str(number), files))
        for number, files in enumerate([FILES, FILES | {"c": b""}, {"package/a": b"one"}, {"package/b": b"one"}, {}])
    }
    assert len(digests) == 5
    assert tree_digest(write_files(tmp_path / "again", FILES)) == tree_digest(tmp_path / "0")


def test_the_cache_is_where_the_option_or_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "environment"))
    assert cache_root() == tmp_path / "environment"
    assert cache_root(tmp_path / "option") == tmp_path / "option"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="RAY_ITL_CACHE"):
        cache_root(tmp_path / "file")
