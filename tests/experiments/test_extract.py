"""Archives of every kind are unpacked alike, and hostile or damaged ones are refused."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_itl.errors import InputError
from ray_itl.experiments.fetch import extract
from tests.experiments.helpers import Files, add, write_deb, write_tgz, write_zip

WRITERS = {"toy-1.tgz": write_tgz, "toy-1-py3-none-any.whl": write_zip, "toy_1_all.deb": write_deb}
FILES = {"package/data/a.txt": b"one", "package/data/deep/b.txt": b"two", "package/setup.py": b"raise SystemExit"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize(("name", "write"), WRITERS.items())
def test_only_wanted_files_are_unpacked(
    tmp_path: Path, folder: Path, name: str, write: Callable[[Path, Files], Path]
) -> None:
    extract(write(tmp_path / name, FILES), folder, ["package/data/*.txt"])
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"package/data/a.txt": b"one", "package/data/deep/b.txt": b"two"}


@pytest.mark.parametrize(("name", "write"), WRITERS.items())
@pytest.mark.parametrize("evil", ["../evil.txt", "package/../../evil.txt", "/tmp/ray-itl-evil.txt"])
def test_no_file_leaves_the_folder(
    tmp_path: Path, folder: Path, name: str, write: Callable[[Path, Files], Path], evil: str
) -> None:
    with pytest.raises(InputError, match="outside"):
        extract(write(tmp_path / name, {evil: b"evil"}), folder, ["*"])
    assert not (tmp_path / "evil.txt").exists()
    assert not Path("/tmp/ray-itl-evil.txt").exists()


def test_links_are_left_out(tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "links.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add(tar, "package/file", b"kept")
    extract(archive, folder, ["*"])
    assert [path.name for path in folder.rglob("*") if not path.is_dir()] == ["file"]


@pytest.mark.parametrize(("name", "write"), WRITERS.items())
def test_a_cut_archive_is_refused(
    tmp_path: Path, folder: Path, name: str, write: Callable[[Path, Files], Path]
) -> None:
    archive = write(tmp_path / name, {"package/a": bytes(range(256)) * 50})
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(InputError, match=name):
        extract(archive, folder, ["*"])


@pytest.mark.parametrize(("name", "content"), [("toy.rar", b""), ("toy.deb", b"no"), ("toy.deb", b"!<arch>\n")])
def test_other_files_are_refused(tmp_path: Path, folder: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        extract(tmp_path / name, folder, ["*"])


def test_a_debian_package_with_a_strange_header_is_refused(tmp_path: Path, folder: Path) -> None:
    header = io.BytesIO(b"!<arch>\n" + b"x" * 120)
    (tmp_path / "toy.deb").write_bytes(header.getvalue())
    with pytest.raises(InputError, match=r"toy\.deb"):
        extract(tmp_path / "toy.deb", folder, ["*"])
