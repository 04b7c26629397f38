"""Hints name the command that exists where they are printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ray_itl.runs.command import command_line
from tests.jobs.helpers import ROOT


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of programs of an environment that is active."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("python", "ray-itl"):
        (programs / name).write_text("")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "executable", str(programs / "python3.11"))
    monkeypatch.chdir(tmp_path)
    return programs


def called(monkeypatch: pytest.MonkeyPatch, program: Path | str) -> str:
    monkeypatch.setattr(sys, "argv", [str(program), "run.dir=a"])
    return command_line("verify", "run.dir=a b")


def test_the_installed_command(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert called(monkeypatch, environment / "ray-itl") == "ray-itl verify 'run.dir=a b'"


@pytest.mark.parametrize("path", ["", "/elsewhere/bin"])
def test_a_command_that_the_shell_would_not_find_has_its_path(
    environment: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PATH", path or os.defpath)
    assert called(monkeypatch, environment / "ray-itl") == f"{environment}/ray-itl verify 'run.dir=a b'"
    assert called(monkeypatch, "bin/ray-itl") == "bin/ray-itl verify 'run.dir=a b'"
    python = f"{environment}/python3.11"
    assert called(monkeypatch, ROOT / "ray_itl/__main__.py") == f"{python} -m ray_itl verify 'run.dir=a b'"


def test_a_command_of_another_environment_is_not_taken_for_ours(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    environment.rename(other)
    monkeypatch.setenv("PATH", str(other))
    assert called(monkeypatch, environment / "ray-itl") == f"{environment}/ray-itl verify 'run.dir=a b'"


def test_the_module(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment
    assert called(monkeypatch, ROOT / "ray_itl/__main__.py") == "python -m ray_itl verify 'run.dir=a b'"


def test_the_script_of_a_checkout(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment
    assert called(monkeypatch, ROOT / "jobs/curate.py") == f"python {ROOT}/jobs/verify.py 'run.dir=a b'"
    monkeypatch.chdir(ROOT)
    for program in ("jobs/curate.py", ROOT / "jobs/curate.py"):
        assert called(monkeypatch, program) == "python jobs/verify.py 'run.dir=a b'"
    monkeypatch.chdir(ROOT / "jobs")
    assert called(monkeypatch, "curate.py") == "python verify.py 'run.dir=a b'"


@pytest.mark.parametrize("program", ["", "-c", "a_script.py", "jobs/mine.py", "/usr/bin/pytest"])
def test_from_python_it_is_the_installed_command(
    environment: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    assert environment
    assert called(monkeypatch, program) == "ray-itl verify 'run.dir=a b'"
