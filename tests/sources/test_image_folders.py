"""Folders of images as pools: which they are, in what columns, read one by one, and by nobody who does not ask."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.io.image_files import folder_of, images_in
from ray_itl.io.image_lists import ImageList, image_lists
from ray_itl.io.walk import Stamp
from ray_itl.sources.files import images
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.parquet import ParquetRows

PATHS = ["a.png", "cats/1.png", "cats/2.JPG", "dogs/big/é 1.webp", "dogs/lang=en/x.tiff"]


def content(path: str) -> bytes:
    return f"the image {path}".encode() * 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pool"
    for path in [*PATHS, "notes.txt", ".hidden/b.png", "cats/_c.png"]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content(path))
    return root


def opened(*paths: str | Path, columns: tuple[str, ...] = ("image", "label"), **options: Any) -> ParquetRows:
    rows = open_raw_rows([str(path) for path in paths], id_column="id", columns=columns, **options)
    assert isinstance(rows, ParquetRows)
    return rows


def ids_of(rows: ParquetRows) -> list[str]:
    return [name for ids, _ in rows.row_batches(0, rows.num_rows, []) for name in ids.tolist()]


def test_images_are_rows_named_by_their_paths_and_folders_are_columns(folder: Path) -> None:
    rows = opened(folder, columns=("image", "label", "folder", "file_name", "lang"))
    assert ids_of(rows) == PATHS
    table = rows.take(np.arange(5), ["file_name", "folder", "label", "lang"]).to_pydict()
    assert table["file_name"] == PATHS
    assert table["folder"] == ["", "cats", "cats", "dogs/big", "dogs/lang=en"]
    assert table["label"] == [None, "cats", "cats", "big", "lang=en"]
    assert table["lang"] == [None] * 4 + ["en"]
    assert rows.take(np.arange(5), ["image"]).column(0).to_pylist() == [content(path) for path in PATHS]


@pytest.mark.parametrize("group_rows", [1, 2, 100])
def test_any_rows_are_those_of_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int) -> None:
    monkeypatch.setattr(images, "_GROUP_ROWS", group_rows)
    for k in range(20):
        (folder / "cats" / f"{k:03}.png").write_bytes(content(str(k)))
    rows = pickle.loads(pickle.dumps(opened(folder)))
    names = ids_of(rows)
    whole = rows.take(np.arange(rows.num_rows), ["image", "label"]).to_pylist()
    for start, stop in ((0, 25), (1, 4), (3, 17), (7, 7)):
        batches = list(rows.row_batches(start, stop, ["image", "label"]))
        assert [row for _, batch in batches for row in batch.to_pylist()] == whole[start:stop]
        assert [name for ids, _ in batches for name in ids.tolist()] == names[start:stop]
    some = np.array([0, 2, 3, 11, 24])
    found = list(rows.row_batches_at(some, ["label", "image"]))
    assert [row for _, batch in found for row in batch.to_pylist()] == [whole[k] for k in some]
    assert [name for ids, _ in found for name in ids.tolist()] == [names[k] for k in some]
    assert rows.take(some[::-1], ["image", "label"]).to_pylist() == [whole[k] for k in some[::-1]]


def test_only_images_asked_for_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    true = images.ImageFolder._read
    monkeypatch.setattr(images.ImageFolder, "_read", lambda s, image: read.append(image.name) or true(s, image))
    rows = opened(folder)
    ids_of(rows)
    rows.take(np.arange(5), ["label"])
    assert read == []
    rows.take(np.array([2]), ["image"])
    assert read == ["2.JPG"]


def test_the_manifest_keeps_the_list_and_a_copy_is_the_same_pool(folder: Path, tmp_path: Path) -> None:
    rows = opened(folder)
    again = Manifest.from_json(rows.manifest.to_json())
    assert (again, again.images) == (rows.manifest, rows.manifest.images)
    folder.rename(tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere").manifest.fingerprint == rows.manifest.fingerprint


def test_an_image_that_arrives_later_is_not_in_the_pool(folder: Path) -> None:
    rows = opened(folder)
    (folder / "cats" / "0.png").write_bytes(b"new")
    assert ids_of(rows) == PATHS
    assert rows.take(np.array([1]), ["image"]).column(0).to_pylist() == [content("cats/1.png")]
    assert opened(folder).manifest.fingerprint != rows.manifest.fingerprint


def grow(path: Path) -> None:
    path.write_bytes(b"other")


def touch(path: Path) -> None:
    path.write_bytes(content("cats/9.png"))
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [(grow, "'cats/1.png' was replaced"), (touch, "'cats/1.png' was replaced"), (Path.unlink, "'cats/1.png' is gone")],
)
def test_an_image_that_is_not_the_planned_one_is_named(
    folder: Path, change: Callable[[Path], object], message: str
) -> None:
    rows = opened(folder)
    change(folder / "cats" / "1.png")
    assert len(rows.take(np.arange(5), ["label"])) == 5
    with pytest.raises(InputError, match=message):
        rows.take(np.arange(5), ["image"])


def test_globs_files_and_lists_of_folders_mean_images_too(folder: Path) -> None:
    assert ids_of(opened(f"{folder}/**/*.png")) == ["a.png", "cats/1.png"]
    assert ids_of(opened(folder / "cats" / "2.JPG")) == ["2.JPG"]
    rows = opened(folder / "cats", folder / "dogs")
    assert ids_of(rows) == PATHS[1:]
    assert rows.take(np.array([0, 3]), ["label"]).column(0).to_pylist() == ["cats", "lang=en"]


def test_tables_come_before_images_but_what_describes_images_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')
    assert ids_of(opened(folder)) == PATHS
    (folder / "rows.jsonl").write_text('{"label": 1, "image": 2}\n')
    assert ids_of(opened(folder)) == ["rows.jsonl:0"]


def test_other_filesystems_are_read_alike(folder: Path) -> None:
    inner = pafs.SubTreeFileSystem(str(folder.parent), pafs.LocalFileSystem())
    for rows in (opened("pool", filesystem=inner), opened(f"fsspec+local://{folder}")):
        assert ids_of(rows) == PATHS
        assert rows.take(np.arange(5), ["image"]).column(0).to_pylist() == [content(path) for path in PATHS]


@given(st.dictionaries(st.text(min_size=1, max_size=9).filter(lambda name: "/" not in name), st.integers(0, 2**40)))
def test_a_list_holds_what_was_listed(sizes: dict[str, int]) -> None:
    stamps = {name: Stamp(size, None, size * 3 if size % 2 else None) for name, size in sizes.items()}
    found = ImageList.of(stamps)
    assert found.images == [(name, stamps[name].size, stamps[name].modified) for name in sorted(stamps)]
    again = image_lists({f"a/b/{name}": stamp for name, stamp in stamps.items()})
    assert again == ({images_in("a/b"): found} if stamps else {})


@pytest.mark.parametrize("folder_path", ["", "a", "a/b"])
def test_folders_have_names_of_their_own(folder_path: str) -> None:
    assert folder_of(images_in(folder_path)) == folder_path
