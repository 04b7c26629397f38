"""The report shows what targets are, where they have a column that the picks carry along."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.open import open_problem
from ray_itl.curation.report import shown_targets
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.report.table import MAX_THUMBNAILS
from ray_itl.sources.settings import PoolSettings, TargetSettings
from tests.helpers import Files, clustered
from tests.report.pages import Page
from tests.report.test_thumbnails import encoded


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A pool with texts; the target has columns of its own besides, in two files."""
    files = Files(tmp_path)
    table = pq.read_table(files.target)
    files.target.unlink()
    table = table.set_column(3, "text", pa.array([f"a target of which much is said: {k}" for k in range(12)]))
    files.target = tmp_path / "target"
    files.target.mkdir()
    for k in range(2):
        part = table.slice(6 * k, 6).append_column("own", pa.array(["x"] * 6))
        pq.write_table(part, files.target / f"{k}.parquet")
    return files


def shown(files: Files, columns: list[str], places: list[int]) -> dict[int, object]:
    target = replace(files.settings().target, path=str(files.target))
    return shown_targets(
        open_problem(replace(files.settings(pool={"columns": columns}), target=target)), columns, places
    )


def test_the_columns_that_both_have_are_shown(files: Files) -> None:
    assert shown(files, ["text"], [7, 0, 7]) == {k: f"a target of which much is said: {k}" for k in (7, 0)}
    assert shown(files, ["weight"], [0]) == {}  # numbers say nothing
    assert shown(files, [], [0]) == {}


def test_a_run_shows_targets_and_the_nearest_of_each_pick(files: Files) -> None:
    settings = files.settings(pool={"columns": ["text"]}, target={"path": str(files.target)})
    selection = files.run(replace(settings, run=replace(settings.run, report=True)))
    assert selection.run_dir is not None
    page = Page((selection.run_dir / "report.html").read_text())
    said, numbers = page.cells("Nearest target"), page.cells("Nearest target, id")
    assert said == [f"a target of which much is said: {number}" for number in numbers]
    assert "Targets that the picks say least about Share of its own variance" in page.text
    assert page.text.count("a target of which much is said") >= 10


def test_reasons_name_targets_by_their_texts(files: Files) -> None:
    settings = files.settings(
        n=3, pool={"columns": ["text"]}, target={"path": str(files.target)}, selection={"explain": True}
    )
    selection = files.run(replace(settings, run=replace(settings.run, report=True)))
    assert selection.run_dir is not None
    page = Page((selection.run_dir / "report.html").read_text())
    numbers = selection.table.column("nearest_targets").to_pylist()
    for cell, three in zip(page.cells("Nearest targets (cosine)"), numbers, strict=True):
        assert [int(number) for number in re.findall(r"is said: (\d+) \(", cell)] == three
    assert all(cell.count("a target of which") == 3 for cell in page.cells("Says most about (share of gain)"))


def test_images_come_before_texts_and_are_read_as_far_as_they_are_shown() -> None:
    rows, pictures = clustered(300, seed=1), itertools.cycle([encoded((9, 9)), encoded((8, 8))])
    columns = {"text": ["words"] * 300, "image": [next(pictures) for _ in range(300)]}
    table = pa.table({"id": range(300), "embedding": rows.tolist(), **columns})
    problem = open_problem(CurationSettings(selection=SelectionSettings(n=3)), Inputs(pool=table, target=table))
    found = shown_targets(problem, ["text", "image"], list(range(300)))
    assert len(found) == MAX_THUMBNAILS
    assert found[0] == columns["image"][0]


def test_images_of_files_are_shown_though_no_column_is_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    for folder, count in (("pool", 30), ("target", 4)):
        (tmp_path / folder / "some").mkdir(parents=True)
        for k in range(count):
            (tmp_path / folder / "some" / f"{k:02}.png").write_bytes(encoded((8, 8 + k % 4)))
    options = {"encoder": "tests.user_encoders:shades", "quiet": True}
    selection = select(str(tmp_path / "pool"), str(tmp_path / "target"), 3, run_dir=tmp_path / "run", **options)
    assert len(selection) == 3
    page = Page((tmp_path / "run" / "report.html").read_text())
    assert len(page.cells("Nearest target")) == 3
    settings = CurationSettings(
        PoolSettings(str(tmp_path / "pool")),
        TargetSettings(str(tmp_path / "target")),
        encoder=EncoderSettings("tests.user_encoders:shades"),
        selection=SelectionSettings(n=3),
    )
    assert shown_targets(open_problem(settings), [], [2]) == {2: encoded((8, 10))}


def test_targets_that_went_meanwhile_or_are_arrays_are_not_shown(files: Files) -> None:
    problem = open_problem(files.settings(target={"path": str(files.target)}))
    (files.target / "1.parquet").unlink()
    assert shown_targets(problem, ["text"], [0, 11]) == {}
    problem = open_problem(files.settings(), Inputs(target=np.asarray(clustered(5, seed=3))))
    assert shown_targets(problem, ["text"], [0]) == {}
