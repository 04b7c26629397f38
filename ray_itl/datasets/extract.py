"""Unpack package archives: only wanted files, nothing outside the folder, nothing executed."""

from __future__ import annotations

import fnmatch
import io
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from ray_itl.errors import InputError

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_DAMAGES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)


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
