"""Small archives of every kind, and a package that they carry."""

import io
import tarfile
import zipfile
from pathlib import Path

from ray_itl.experiments.fetch import Package, Tool, tree_digest

Files = dict[str, bytes]


def write_tgz(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            add(tar, name, content)
    return path


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def write_deb(path: Path, files: Files) -> Path:
    """A Debian package: an `ar` archive of three members, the first of odd length."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name, content in files.items():
            add(tar, f"./{name}", content)
    members = {"debian-binary": b"2.0\n!", "control.tar.xz": b"none", "data.tar.xz": data.getvalue()}
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_files(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def npm_package(tmp_path: Path, files: Files, patterns: tuple[str, ...] = ("package/*",)) -> Package:
    """A package on npm with the digest of these files."""
    return Package(Tool.NPM, "toy-data", "1.0.0", patterns, tree_digest(write_files(tmp_path / "expected", files)))
