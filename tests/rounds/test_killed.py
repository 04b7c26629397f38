"""A driver killed in the middle of a round: the same command goes on, with the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.rounds.helpers import write_digits

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]


def start(folder: Path, run: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.rounds.run_digits", str(folder), str(run)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(folder: Path, run: Path) -> dict[str, list]:
    assert start(folder, run).wait(timeout=250) == 0
    curves = pq.read_table(run / "learning_curves.parquet")
    kept = [name for name in curves.column_names if not name.startswith(("seconds", "drift"))]
    return curves.select(kept).to_pydict()


def kill_when(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Kill the process as soon as a file is there."""
    deadline = time.monotonic() + 200
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


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
    process = start(folder, tmp_path / "run")
    kill_when(tmp_path / "run" / moment, process)
    assert not (tmp_path / "run" / "learning_curves.parquet").exists()
    assert finish(folder, tmp_path / "run") == figures
