"""A driver killed in the middle of a round: the same command goes on, with the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.rounds.helpers import write_digits

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]


def run_digits(folder: Path, run: Path, *fatal: Path) -> int:
    """Return the exit code of a run, which a file may be fatal to."""
    command = [sys.executable, "-m", "tests.rounds.run_digits", *map(str, (folder, run, *fatal))]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode


def finish(folder: Path, run: Path) -> dict[str, list]:
    assert run_digits(folder, run) == 0
    curves = pq.read_table(run / "learning_curves.parquet")
    kept = [name for name in curves.column_names if not name.startswith(("seconds", "drift"))]
    return curves.select(kept).to_pydict()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list]]:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return folder, finish(folder, folder / "whole")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("rounds/0001/selection.parquet", marks=pytest.mark.slow),
        "rounds/0002/checkpoint.safetensors",
        pytest.param("rounds/0003/labels.parquet", marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed(moment: str, expected: tuple[Path, dict[str, list]], tmp_path: Path) -> None:
    folder, figures = expected
    assert run_digits(folder, tmp_path / "run", tmp_path / "run" / moment) == -signal.SIGKILL
    assert (tmp_path / "run" / moment).exists()
    assert not (tmp_path / "run" / "learning_curves.parquet").exists()
    assert finish(folder, tmp_path / "run") == figures
