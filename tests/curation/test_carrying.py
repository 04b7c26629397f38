"""Columns that picks carry decide no pick: another try asks for others, and the picks stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.api import select
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.observability.reporter import Reporter
from ray_itl.options.text import from_yaml
from ray_itl.runs.ledger import Ledger
from ray_itl.selection import Selection
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.helpers import Files


class Lines(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("quiet")
        self.told: list[str] = []

    def info(self, line: str) -> None:
        self.told.append(line)

    def warn(self, line: str) -> None:
        self.told.append(line)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def run(files: Files, columns: list[str], **changes: Any) -> tuple[Selection, str]:
    lines = Lines()
    selection = files.run(files.settings(pool={"columns": columns}, **changes), lines)
    return selection, "\n".join(lines.told)


def test_a_run_whose_writing_failed_ends_with_fewer_columns(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = files.run(files.settings("plain"))

    def clash(*_: object) -> pa.Table:
        raise InputError("types clash")

    with monkeypatch.context() as patch:
        patch.setattr("ray_itl.curation.outputs.carried_columns", clash)
        with pytest.raises(InputError, match=r"types clash"):
            run(files, ["text"])
    blocks = {path.name: path.read_bytes() for path in (files.folder / "run" / "ledger").iterdir()}
    selection, told = run(files, [])
    assert "12 picks are in the ledger already" in told
    assert "pool.columns=[] and selection.explain=false are not what this run began with" in told
    assert {path.name: path.read_bytes() for path in (files.folder / "run" / "ledger").iterdir()} == blocks
    assert selection.table.equals(expected.table)
    config = from_yaml((files.folder / "run" / "config.yaml").read_text(), CurationSettings)
    assert config.pool.columns == []
    assert verify(VerifySettings(run=FinishedRun(str(files.folder / "run")))).right


@pytest.mark.parametrize("rule", ["itl", "nearest"])
@pytest.mark.parametrize("explain", [False, True])
def test_a_finished_run_is_written_anew(files: Files, rule: str, explain: bool) -> None:
    options = {"acquisition": {"name": rule}, "selection": {"explain": explain}}
    first, _ = run(files, ["text"], **options)
    for columns in (["weight", "text"], [], ["text"]):
        found, told = run(files, columns, **options)
        assert "selection.parquet is written anew" in told
        fresh = files.run(files.settings(f"fresh-{len(columns)}-{columns[:1]}", pool={"columns": columns}, **options))
        assert found.table.equals(fresh.table)
        assert pq.read_table(files.folder / "run" / "selection.parquet").equals(fresh.table)
        assert len(Ledger(files.folder / "run").read()) == (12 if rule == "itl" else 0)
        again, told = run(files, columns, **options)
        assert "written anew" not in told
        assert again.table.equals(fresh.table)
    assert found.ids == first.ids
    assert verify(VerifySettings(run=FinishedRun(str(files.folder / "run")))).right


def test_an_explanation_takes_the_pool(files: Files) -> None:
    run(files, [])
    with pytest.raises(RunDirectoryError, match=r"finished without selection\.explain"):
        run(files, [], selection={"explain": True})
    explained = files.run(files.settings("other", selection={"explain": True}))
    assert files.run(files.settings("other")).table.equals(explained.table)


def test_rows_in_memory(files: Files, tmp_path: Path) -> None:
    target = str(files.target)
    first = select(files.table, target, 7, run_dir=tmp_path / "memory")
    second = select(files.table, target, 7, run_dir=tmp_path / "memory", columns=["text"])
    assert first.ids == second.ids
    assert second.table.equals(select(files.table, target, 7, columns=["text"]).table)
