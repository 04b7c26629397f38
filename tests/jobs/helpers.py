"""Running jobs: composed as on the command line, in this process or in one of their own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from ray_itl.config import register_schemas

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def compose_job(name: str, *overrides: str, with_hydra: bool = False) -> DictConfig:
    """Return a job's configuration with command-line overrides applied."""
    register_schemas()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(name, list(overrides), return_hydra_config=True)
    if not with_hydra:
        with open_dict(config):
            del config["hydra"]
    return config


def load_job(name: str) -> ModuleType:
    """Import jobs/<name>.py."""
    spec = importlib.util.spec_from_file_location(f"job_{name}", ROOT / "jobs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call_job(name: str, *overrides: str, capsys: pytest.CaptureFixture[str]) -> subprocess.CompletedProcess[str]:
    """Run a job in this process: seconds less than in one of its own, with the same output and exit code."""
    capsys.readouterr()
    code: Any = 0
    try:
        load_job(name).main(compose_job(name, *overrides))
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr()
    return subprocess.CompletedProcess([name, *overrides], code, shown.out, shown.err)


def run_job(name: str, *overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a job as a user would."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *overrides]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=400, check=False)
