"""What a folder holds: through links, under any name, and never silently less."""

import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from ray_itl.errors import InputError, StorageError
from ray_itl.io.listing import Listing, list_files


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name in ("pool/a.parquet", "pool/sub/b.parquet", "elsewhere/c.parquet", "elsewhere/deep/d.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "pool"


def names(*sources: object) -> list[str]:
    return list(list_files([str(source) for source in sources]).paths)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


PLAIN = ["a.parquet", "sub/b.parquet"]


def test_links_to_files_and_folders_are_followed(pool: Path) -> None:
    (pool / "linked").symlink_to("../elsewhere")
    (pool / "z.parquet").symlink_to("../elsewhere/deep/d.parquet")  # found as linked/deep/d.parquet already
    assert names(pool) == ["a.parquet", "linked/c.parquet", "linked/deep/d.parquet", "sub/b.parquet"]
    assert names(pool / "*/*.parquet") == ["linked/c.parquet", "sub/b.parquet"]


def test_the_pool_itself_may_be_a_link(pool: Path) -> None:
    (pool.parent / "link").symlink_to("pool")
    assert names(pool.parent / "link") == PLAIN


@pytest.mark.parametrize("target", [".", "..", "../pool", "../pool/sub"])
def test_links_in_a_loop_end(pool: Path, target: str) -> None:
    (pool / "sub" / "again").symlink_to(pool / target)
    found = names(pool)
    assert found[0] == "a.parquet"
    assert found.count("sub/b.parquet") == 1
    assert len({(pool / name).resolve() for name in found}) == len(found)


def test_a_file_that_links_name_too_counts_once_and_by_its_own_name(pool: Path) -> None:
    (pool / "0.parquet").symlink_to("sub/b.parquet")
    (pool / "1.parquet").symlink_to("../elsewhere/c.parquet")
    (pool / "2.parquet").symlink_to("../elsewhere/c.parquet")
    assert names(pool) == ["1.parquet", "a.parquet", "sub/b.parquet"]


@pytest.mark.parametrize("name", ["gone.parquet", "folder", "sub/gone"])
def test_a_link_that_leads_nowhere_is_refused(pool: Path, name: str) -> None:
    (pool / name).symlink_to("nosuch")
    with pytest.raises(
        InputError, match=rf"{name}' is a link to 'nosuch', which leads nowhere .*restore.*remove"
    ) as it:
        names(pool)
    assert "\n" not in str(it.value)


def test_links_that_lead_to_each_other_are_refused(pool: Path) -> None:
    (pool / "x").symlink_to("y")
    (pool / "y").symlink_to("x")
    with pytest.raises(InputError, match="x' is a link to 'y', which leads nowhere"):
        names(pool)


def test_a_link_beside_what_is_asked_for_may_lead_nowhere(pool: Path) -> None:
    for name in ("notes.txt", ".lock", "_old"):
        (pool / name).symlink_to("nosuch")
    assert names(pool / "*.parquet") == ["a.parquet"]
    (pool / "notes.txt").unlink()
    assert names(pool) == PLAIN


BAD = os.fsdecode(b"\xff\xfe")


@pytest.mark.parametrize(
    "name", [f"{BAD}.txt", f"{BAD}/notes.txt", f"sub/{BAD}", f".{BAD}.parquet", f"_{BAD}/x.parquet"]
)
def test_names_that_are_not_utf8_are_no_trouble_where_they_hold_no_rows(pool: Path, name: str) -> None:
    touch(pool / name)
    assert names(pool) == PLAIN
    assert names(pool / "*.parquet") == ["a.parquet"]
    assert names(pool / "**/*.parquet") == PLAIN


@pytest.mark.parametrize("name", [f"{BAD}.parquet", f"{BAD}/x.parquet", f"sub/x{BAD}.pq"], ids=ascii)
def test_a_pool_file_whose_name_is_not_utf8_is_refused_by_it(pool: Path, name: str) -> None:
    touch(pool / name)
    with pytest.raises(InputError, match=r"pool/.*\\xff\\xfe.*is not UTF-8.*rename") as caught:
        names(pool)
    str(caught.value).encode()


def test_a_path_that_is_not_utf8_is_refused() -> None:
    for source in (f"/data/{BAD}", f"/data/{BAD}/*.parquet", f"s3://bucket/{BAD}"):
        with pytest.raises(InputError, match="is not UTF-8"):
            list_files([source])


@pytest.mark.parametrize(
    ("error", "kind"), [(PermissionError(13, "Permission denied"), InputError), (OSError(5, "I/O error"), StorageError)]
)
def test_a_folder_that_cannot_be_listed_is_refused(
    pool: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[Exception]
) -> None:
    scan = os.scandir

    def fail(path: str) -> object:
        if str(path).endswith("/sub"):
            raise error
        return scan(path)

    monkeypatch.setattr("os.scandir", fail)
    with pytest.raises(kind, match=r"cannot list '.*pool/sub'"):
        names(pool)
    assert names(pool / "*.parquet") == ["a.parquet"]


def test_what_is_no_file_is_refused(pool: Path) -> None:
    os.mkfifo(pool / "pipe.parquet")
    for source in (pool, pool / "*.parquet"):
        with pytest.raises(InputError, match=r"pipe\.parquet' is no file"):
            names(source)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        names(pool / "pipe.parquet")


def test_a_file_that_vanishes_meanwhile_is_not_there(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.stat
    monkeypatch.setattr(
        "os.stat", lambda path, **k: look(f"{path}.gone" if str(path).endswith("b.parquet") else path, **k)
    )
    assert names(pool) == ["a.parquet"]


def stamped(listing: Listing) -> list[int]:
    return [stamp.size for stamp in listing.stamps.values()]


def test_what_is_listed_has_its_size_and_time(pool: Path) -> None:
    (pool / "a.parquet").write_bytes(b"1234")
    inner = pafs.SubTreeFileSystem(str(pool.parent), pafs.LocalFileSystem())
    for listing in (list_files([str(pool)]), list_files(["pool"], inner), list_files([f"fsspec+local://{pool}"])):
        assert listing.paths == ("a.parquet", "sub/b.parquet")
        assert stamped(listing) == [4, 0]
        assert all(stamp.changed is not None for stamp in listing.stamps.values())
