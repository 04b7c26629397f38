"""A file that is not whole: still being written (try later), damaged (never), or encrypted (say so)."""

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest

from ray_itl.cli.guard import guarded
from ray_itl.errors import InputError, UnfinishedFileError
from ray_itl.io.walk import Stamp
from ray_itl.sources import agreement
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.files import parquet
from ray_itl.sources.lookup import read_ids
from ray_itl.sources.targets import read_targets
from tests.sources.helpers import open_pool, pool_table, random_rows, read_range, write_pool

LONG_AGO = -7200.0


def age(path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file look as if it had last changed so many seconds from now (before: negative)."""
    moment = time.time() + seconds
    os.utime(path, (moment, moment))
    by_mtime = lambda found: Stamp(found.st_size, found.st_mtime)  # noqa: E731  the other one cannot be set
    monkeypatch.setattr("ray_itl.io.walk._local_stamp", by_mtime)


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """The second of three files, half of which is there."""
    write_pool(tmp_path, [5, 5, 5])
    path = tmp_path / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    return path


@pytest.mark.parametrize("seconds", [0.0, -300.0, 300.0], ids=["now", "just before", "by a clock that is ahead"])
def test_a_file_that_was_cut_short_lately_may_be_on_its_way(
    cut: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(cut, seconds, monkeypatch)
    with pytest.raises(UnfinishedFileError, match=r"'part-1.parquet' .*still be being written: .*pool\.settle_s") as it:
        open_pool(cut.parent)
    assert "\n" not in str(it.value)


@pytest.mark.parametrize("seconds", [LONG_AGO, -LONG_AGO])
def test_one_that_was_cut_short_long_ago_is_damaged(cut: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    age(cut, seconds, monkeypatch)
    with pytest.raises(InputError, match=r"'part-1.parquet' .*cut short; write or copy") as caught:
        open_pool(cut.parent)
    assert not isinstance(caught.value, UnfinishedFileError)


def test_an_old_copy_of_a_file_that_arrived_lately_is_on_its_way(cut: Path) -> None:
    os.utime(cut, (1000, 1000))  # as `cp -p` does at last
    with pytest.raises(UnfinishedFileError):
        open_pool(cut.parent)


@pytest.mark.parametrize("size", [0, 3, 12])
def test_a_file_of_which_hardly_anything_is_there(cut: Path, size: int) -> None:
    cut.write_bytes(cut.read_bytes()[:size])
    with pytest.raises(UnfinishedFileError):
        open_pool(cut.parent)


def test_a_file_of_which_only_the_end_is_missing_may_have_room_for_it(cut: Path) -> None:
    for data in (cut.read_bytes() + b"\0" * 20, b"\0" * 900):
        cut.write_bytes(data)
        with pytest.raises(UnfinishedFileError):
            open_pool(cut.parent)


def test_what_is_something_else_stays_that(cut: Path) -> None:
    cut.write_bytes(b"id,embedding\n1,2\n")
    with pytest.raises(InputError, match="something else") as caught:
        open_pool(cut.parent)
    assert not isinstance(caught.value, UnfinishedFileError)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(("change", "what"), [(grow, "has changed"), (Path.unlink, "has gone")])
def test_a_file_that_changes_between_listing_and_reading_is_on_its_way(
    cut: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], what: str
) -> None:
    age(cut, LONG_AGO, monkeypatch)
    find = agreement.list_pool

    def list_and_change(*arguments: Any) -> Any:
        listing = find(*arguments)
        change(cut)
        return listing

    monkeypatch.setattr(agreement, "list_pool", list_and_change)
    with pytest.raises(UnfinishedFileError, match=f"'part-1.parquet' {what} since it was listed"):
        open_pool(cut.parent)


def test_on_other_filesystems_it_is_the_same(cut: Path) -> None:
    inner = pafs.SubTreeFileSystem(str(cut.parent.parent), pafs.LocalFileSystem())
    places = [([f"fsspec+local://{cut.parent}"], None), ([cut.parent.name], inner), ([str(cut)], None)]
    for sources, filesystem in places:
        with pytest.raises(UnfinishedFileError):
            build_manifest(sources, Asked("id", "embedding"), filesystem)


def test_so_it_is_for_targets_and_lists_of_ids(cut: Path, tmp_path: Path) -> None:
    with pytest.raises(UnfinishedFileError, match=r"^targets: file 'part-1"):
        read_targets(str(cut), embedding_column="embedding", what="targets")
    pq.write_table(pool_table(random_rows(3)), tmp_path / "good.parquet")
    pool = open_pool(tmp_path / "good.parquet")
    with pytest.raises(UnfinishedFileError, match=r"^pool\.exclude="):
        read_ids(str(cut), "id", pool, "pool.exclude")


def test_a_job_ends_with_75_then_and_with_2_for_a_damaged_file(
    cut: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds, code in ((0.0, 75), (LONG_AGO, 2)):
        age(cut, seconds, monkeypatch)
        with pytest.raises(SystemExit) as ended:
            guarded(lambda: open_pool(cut.parent))()
        assert ended.value.code == code
        assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_may_not_be_read_is_said_to_be_that(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(parquet, "read_ends", refuse)
    with pytest.raises(InputError, match=r"'part-0.parquet' may not be read by this user; check its permissions"):
        open_pool(cut.parent)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_is_called_encrypted(tmp_path: Path, plaintext_footer: bool) -> None:
    class Keys(encryption.KmsClient):
        def __init__(self, _: object) -> None:
            super().__init__()

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002
            return base64.b64encode(key_bytes)

        def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:  # noqa: ARG002
            return base64.b64decode(wrapped_key)

    table = pool_table(random_rows(6), kind="list")
    plan = encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["embedding.list.element"]}, plaintext_footer=plaintext_footer
    )
    factory = encryption.CryptoFactory(Keys)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), plan)
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match=r"file 'a\.parquet' is encrypted .*write it again without") as caught:
        read_range(open_pool(tmp_path), 0, 6)
    assert not isinstance(caught.value, UnfinishedFileError)
