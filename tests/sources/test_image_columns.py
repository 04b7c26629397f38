"""What metadata.jsonl and metadata.csv say of images: columns of theirs, joined by file names, checked and told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest

from ray_itl import select
from ray_itl.errors import InputError
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.parquet import ParquetRows
from tests.sources.test_image_folders import PATHS, content, ids_of, opened


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    for path in PATHS:
        (tmp_path / "pool" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pool" / path).write_bytes(content(path))
    return tmp_path / "pool"


def tell(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def embed(images: Sequence[bytes]) -> np.ndarray:
    return np.array([[len(image), sum(image) % 97, 1] for image in images], dtype=np.float32)


def columns(rows: ParquetRows, *names: str) -> dict[str, list[Any]]:
    return rows.take(np.arange(rows.num_rows), list(names)).to_pydict()


def test_rows_are_joined_by_file_names(folder: Path) -> None:
    told = [{"file_name": path, "caption": f"about {path}", "stars": k} for k, path in enumerate(PATHS)]
    tell(folder / "metadata.jsonl", told[::-1])
    rows = opened(folder, columns=("caption", "stars", "image"))
    assert ids_of(rows) == PATHS
    assert columns(rows, "stars", "caption", "image", "label") == {
        "stars": list(range(5)),
        "caption": [f"about {path}" for path in PATHS],
        "image": [content(path) for path in PATHS],
        "label": [None, "cats", "cats", "big", "lang=en"],
    }
    assert rows.take(np.array([4, 1]), ["stars"]).column(0).to_pylist() == [4, 1]
    assert rows.columns_of("cats/") == ["file_name", "folder", "label", "caption", "stars", "image"]
    assert rows.manifest.remarks == ("metadata.jsonl gives 5 images caption, stars",)
    assert Manifest.from_json(rows.manifest.to_json()) == rows.manifest


def test_the_nearest_file_counts_and_may_give_another_label(folder: Path) -> None:
    tell(folder / "metadata.jsonl", [{"file_name": "a.png", "label": "dog"}, {"file_name": "cats/1.png", "label": "x"}])
    (folder / "cats" / "metadata.csv").write_text("file_name,label\n1.png,lion\n./2.JPG,tiger\n")
    rows = opened(folder)
    assert columns(rows, "label") == {"label": ["dog", "lion", "tiger", None, None]}
    assert rows.manifest.remarks == (
        "cats/metadata.csv gives 2 images label",
        "metadata.jsonl gives 3 images label; 2 images without a row there, such as dogs/big/é 1.webp, have nulls; "
        "1 row about files that are no rows here, such as cats/1.png, passed over",
    )


def test_rows_that_cannot_be_joined_are_named(folder: Path) -> None:
    path = folder / "cats" / "metadata.jsonl"
    tell(path, [{"file_name": "1.png"}, {"file_name": "3.png"}])
    with pytest.raises(InputError, match=r"'cats/metadata\.jsonl', row 1 .*names 'cats/3\.png', which does not exist"):
        opened(folder)
    tell(path, [{"file_name": "1.png"}, {"caption": "x"}])
    with pytest.raises(
        InputError, match=r"'cats/metadata\.jsonl', row 1 .*file_name is None: name an image below 'cats'"
    ):
        opened(folder)
    tell(path, [{"name": "1.png"}])
    with pytest.raises(InputError, match=r"'cats/metadata\.jsonl' has no column 'file_name'"):
        opened(folder)
    tell(path, [{"file_name": "1.png", "image": "x"}])
    with pytest.raises(InputError, match=r"has a column 'image', which is the image itself"):
        opened(folder)
    path.write_text('{"file_name": "1.png"\n')
    with pytest.raises(InputError, match=r"metadata\.jsonl"):
        opened(folder)
    tell(path, [{"file_name": "1.png"}])
    (folder / "cats" / "metadata.csv").write_text("file_name\n1.png\n")
    with pytest.raises(InputError, match=r"both tell of the images beside them: keep one"):
        opened(folder)


def test_what_is_told_twice_counts_once_and_other_files_may_be_named(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    tell(
        folder / "metadata.jsonl",
        [{"file_name": "a.png", "k": 1}, {"file_name": "a.png", "k": 2}, {"file_name": "notes.txt", "k": 3}],
    )
    rows = opened(folder)
    assert columns(rows, "k") == {"k": [1, None, None, None, None]}
    assert "1 row about images of an earlier row, which counts" in rows.manifest.remarks[0]
    assert "1 row about files that are no rows here, such as notes.txt" in rows.manifest.remarks[0]


def test_a_change_counts_for_the_images_that_it_tells_of(folder: Path) -> None:
    bare = {file.path: file.fingerprint for file in opened(folder).manifest.files}

    def changed() -> set[str]:
        return {file.path for file in opened(folder).manifest.files if file.fingerprint != bare[file.path]}

    tell(folder / "metadata.jsonl", [{"file_name": "a.png"}])
    assert changed() == set()
    tell(folder / "metadata.jsonl", [{"file_name": "cats/1.png", "k": 1}])
    rows = opened(folder)
    assert changed() == {"cats/"}
    tell(folder / "metadata.jsonl", [{"file_name": "cats/1.png", "k": 2}])
    with pytest.raises(InputError, match=r"replaced|changed"):
        columns(rows, "k")


def test_globs_mean_images_alone_and_other_filesystems_are_read_alike(folder: Path) -> None:
    tell(folder / "metadata.jsonl", [{"file_name": "a.png", "k": 1}])
    assert "k" not in opened(f"{folder}/**/*.png").columns_of("./")
    inner = pafs.SubTreeFileSystem(str(folder.parent), pafs.LocalFileSystem())
    rows = opened("pool", filesystem=inner)
    assert columns(rows, "k")["k"] == [1, None, None, None, None]
    assert "k" in opened(folder, folder / "cats").columns_of("./")


def test_the_columns_filter_and_are_carried_and_come_back(folder: Path, tmp_path: Path) -> None:
    tell(folder / "metadata.jsonl", [{"file_name": path, "text": path, "k": k} for k, path in enumerate(PATHS)])
    options: dict[str, Any] = {"encoder": embed, "filter": "k > 0", "columns": ["text"]}
    picked = select(str(folder), str(folder), 3, run_dir=tmp_path / "run", **options)
    assert picked.ids == picked.table.column("text").to_pylist()
    assert "a.png" not in picked.ids
    told = [json.loads(line) for line in (tmp_path / "run" / "selection" / "metadata.jsonl").read_text().splitlines()]
    assert [(row["file_name"], row["k"]) for row in told] == [(name, PATHS.index(str(name))) for name in picked.ids]
    again = opened(tmp_path / "run" / "selection")
    assert set(columns(again, "k")["k"]) == {row["k"] for row in told}
