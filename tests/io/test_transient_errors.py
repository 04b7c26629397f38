"""Storage that fails for a moment is told apart from files that are missing or damaged."""

import errno
import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from ray_itl.errors import InputError, StorageError
from ray_itl.io.filesystems import is_transient
from ray_itl.runs.directory import RunDirectory, UnusableRunDirectoryError
from ray_itl.runs.ledger import Ledger, LedgerEntry
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.parquet import ParquetSource
from tests.distributed.helpers import make_rows, write_rows


@pytest.mark.parametrize("number", [errno.EIO, errno.ETIMEDOUT, errno.ENOSPC, errno.ECONNRESET])
def test_errors_that_may_pass(number: int) -> None:
    assert is_transient(OSError(number, "x"))


def test_errors_of_object_stores_that_may_pass() -> None:
    assert is_transient(OSError("When reading: AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"))
    assert is_transient(OSError("When reading: AWS Error UNKNOWN (HTTP status 503) during GetObject operation"))
    assert not is_transient(
        OSError("When reading: AWS Error ACCESS_DENIED (HTTP status 403) during HeadObject operation")
    )


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "x"), PermissionError(errno.EACCES, "x"), ValueError()]
)
def test_errors_that_stay(error: Exception) -> None:
    assert not is_transient(error)


class Failing(pafs.LocalFileSystem):
    """A filesystem on which opening a file gives an error."""

    number = 0

    def open_input_file(self, path: str) -> object:
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        return super().open_input_file(path)


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, StorageError), (errno.EACCES, InputError)])
def test_a_pool_that_cannot_be_read(tmp_path: Path, number: int, kind: type[Exception]) -> None:
    manifest = write_rows(tmp_path / "pool", make_rows(100)).manifest
    filesystem = Failing()
    filesystem.number = number
    with pytest.raises(kind, match=r"pool\.parquet"):
        next(ParquetSource(manifest, filesystem).batches(0, 100))
    with pytest.raises(kind, match=r"pool\.parquet"):
        build_manifest([str(tmp_path / "pool")], Asked("id", "embedding"), filesystem)


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageError), (errno.EROFS, UnusableRunDirectoryError)])
def test_a_run_directory_that_cannot_be_written(
    tmp_path: Path, number: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(kind, match=os.strerror(number)):
        RunDirectory(tmp_path / "run").begin({}, {}, "")


def test_a_ledger_that_cannot_be_read_for_a_moment_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(tmp_path).append([LedgerEntry(0, 1, 2, 3.0)])

    def refuse(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StorageError, match=r"block-00000000\.json cannot be read at the moment") as caught:
        Ledger(tmp_path).read()
    assert "delete" not in str(caught.value)
