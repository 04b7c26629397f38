"""Picks of image folders come back as folders of images: links or copies, told of in metadata.jsonl, whole or not."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest

from ray_itl.curation import picked_images
from ray_itl.curation.picked_images import METADATA, write_picked_images
from ray_itl.curation.report import pictures
from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.whole_rows import file_of, form_of, write_whole_rows
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.runs.directory import RunDirectory
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.parquet import ParquetSource
from tests.sources.helpers import open_pool, write_pool
from tests.sources.test_image_folders import PATHS, content

PICKS = np.array([3, 0, 4, 1])


def images_of(path: str | Path, filesystem: pafs.FileSystem | None = None) -> ParquetSource:
    """The rows of a pool of images; embeddings do not matter here, so there are none."""
    asked = Asked("", "", {"label": "columns"}, names_rows=True)
    rows = ParquetSource.__new__(ParquetSource)
    super(ParquetSource, rows).__init__(build_manifest([str(path)], asked, filesystem), filesystem)
    return rows


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for path in PATHS:
        (tmp_path / "pool" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pool" / path).write_bytes(content(path))
    return tmp_path / "pool"


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METADATA).read_text().splitlines()]


@pytest.mark.parametrize("links", [True, False])
def test_picks_keep_their_paths_and_ranks(pool: Path, tmp_path: Path, links: bool) -> None:
    folder = tmp_path / "selection"
    write_picked_images(folder, images_of(pool), PICKS, links)
    picked = [PATHS[k] for k in PICKS]
    assert files_in(folder) == sorted([*picked, METADATA])
    assert all((folder / path).read_bytes() == content(path) for path in picked)
    assert all((folder / path).is_symlink() == links for path in picked)
    assert [(row["file_name"], row["rank"]) for row in told(folder)] == [(p, k) for k, p in enumerate(picked, start=1)]
    assert told(folder)[2] == {
        **{"file_name": "dogs/lang=en/x.tiff", "rank": 3, "folder": "dogs/lang=en", "label": "lang=en", "lang": "en"}
    }
    assert not list(tmp_path.glob(".selection*"))


def test_the_folder_is_a_pool_and_what_imagefolder_reads(pool: Path, tmp_path: Path) -> None:
    write_picked_images(tmp_path / "selection", images_of(pool), PICKS, links=True)
    again = open_raw_rows(str(tmp_path / "selection"), id_column="id", columns=["image"])
    assert again.num_rows == 4
    assert set(again.take(np.arange(4), ["image"]).column(0).to_pylist()) == {content(PATHS[k]) for k in PICKS}


def test_filesystems_without_links_and_others_than_mounts_get_copies(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picked_images(tmp_path / "remote", images_of(f"fsspec+local://{pool}"), PICKS, links=True)

    def refuse(*_: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    write_picked_images(tmp_path / "none", images_of(pool), PICKS, links=True)
    for name in ("remote", "none"):
        assert files_in(tmp_path / name) == sorted([*(PATHS[k] for k in PICKS), METADATA])
        assert not any((tmp_path / name / PATHS[k]).is_symlink() for k in PICKS)


def test_a_killed_try_leaves_no_folder_and_its_copies_are_kept(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    true = picked_images._Placer._copy

    def stop_after_two(placer: Any, name: str, path: str, target: Path) -> None:
        if len(copied) == 2:
            raise KeyboardInterrupt
        true(placer, name, path, target)
        copied.append(name)

    monkeypatch.setattr(picked_images, "_COPIES_AT_A_TIME", 1)
    monkeypatch.setattr(picked_images._Placer, "_copy", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        write_picked_images(tmp_path / "selection", images_of(pool), PICKS, links=False)
    assert not (tmp_path / "selection").exists()
    before = {name: os.stat(tmp_path / ".selection.tmp" / name).st_ino for name in copied}  # noqa: PTH116
    monkeypatch.setattr(picked_images._Placer, "_copy", true)
    write_picked_images(tmp_path / "selection", images_of(pool), PICKS, links=False)
    assert files_in(tmp_path / "selection") == sorted([*(PATHS[k] for k in PICKS), METADATA])
    assert {name: os.stat(tmp_path / "selection" / name).st_ino for name in copied} == before  # noqa: PTH116


def test_a_row_picked_twice_is_one_image_with_two_lines(pool: Path, tmp_path: Path) -> None:
    write_picked_images(tmp_path / "selection", images_of(pool), np.array([1, 0, 1]), links=True)
    assert [(row["file_name"], row["rank"]) for row in told(tmp_path / "selection")] == [
        ("cats/1.png", 1),
        ("a.png", 2),
        ("cats/1.png", 3),
    ]
    write_picked_images(tmp_path / "none", images_of(pool), np.array([], dtype=np.int64), links=True)
    assert files_in(tmp_path / "none") == [METADATA]


def test_what_cannot_be_is_named(pool: Path, tmp_path: Path) -> None:
    source = images_of(pool)
    (pool / "cats" / "1.png").unlink()
    for links in (True, False):
        with pytest.raises(InputError, match=r"'cats/1\.png' is gone"):
            write_picked_images(tmp_path / "selection", source, PICKS, links)
    with pytest.raises(RunDirectoryError, match=r"cannot write .*nowhere/selection"):
        write_picked_images(tmp_path / "nowhere" / "selection", source, PICKS, links=False)
    placer = picked_images._Placer(source, tmp_path, links=True)
    for name in ("../a.png", "/etc/a.png", "a/../../b.png"):
        with pytest.raises(InputError, match="leads out of its folder"):
            placer.place(name)


def test_the_form_of_a_pool_is_that_of_its_files(pool: Path, tmp_path: Path) -> None:
    source = images_of(pool)
    assert [form_of(source, asked) for asked in ("auto", "folder", "parquet", "csv")] == [
        *("folder", "folder", "parquet", "csv")
    ]
    assert file_of(source, "auto") == "selection"
    (tmp_path / "parquet").mkdir()
    write_pool(tmp_path / "parquet", [3])
    plain = open_pool(tmp_path / "parquet")
    assert form_of(plain, "auto") == "parquet"
    with pytest.raises(ConfigError, match=r"run\.output=folder, but the pool is no folder of images"):
        form_of(plain, "folder")


def test_lines_about_images_leave_their_bytes_out(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = RunDirectory(str(tmp_path / "run"))
    write_whole_rows(run, images_of(pool), PICKS, RunSettings(output="jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "selection.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in lines] == [PATHS[k] for k in PICKS]
    assert "image" not in lines[0]
    write_whole_rows(run, images_of(pool), PICKS, RunSettings())
    assert files_in(tmp_path / "run" / "selection") == sorted([*(PATHS[k] for k in PICKS), METADATA])


def test_reports_show_the_foremost_images_unless_they_are_carried(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = images_of(pool)
    assert pictures(source, PICKS, []) == {"image": [content(PATHS[k]) for k in PICKS]}
    assert pictures(source, PICKS, ["image"]) == {}
    monkeypatch.setattr("ray_itl.curation.report.MAX_THUMBNAILS", 2)
    assert pictures(source, PICKS, ["label"]) == {"image": [content(PATHS[k]) for k in PICKS[:2]] + [None] * 2}
    (pool / PATHS[PICKS[0]]).unlink()
    assert pictures(source, PICKS, []) == {}
    (tmp_path / "parquet").mkdir()
    write_pool(tmp_path / "parquet", [3])
    assert pictures(open_pool(tmp_path / "parquet"), np.arange(2), []) == {}
