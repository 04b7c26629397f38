"""How the CronJob's pod judges a night: by what is published, not by how its submission ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.test_manifest_entrypoints import as_cron_job, scheduled
from tests.ticks.helpers import Growing

NIGHTS = ("2026-02-03", "2026-02-04")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Growing:
    """A state with two nights published."""
    growing = Growing(tmp_path_factory.mktemp("nights") / "data")
    for part, night in enumerate(NIGHTS):
        growing.grow(part)
        growing.tick(night)
    return growing


def verdict(growing: Growing, folder: Path, night: str) -> int:
    """Return the exit code of a night's pod whose job leaves everything as it is, as one that is stopped does."""
    ray = folder / "ray"
    ray.write_text("#!/bin/sh\nexit 0\n")
    ray.chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.defpath])
    environment = {"PATH": path, "JOB_NAME": scheduled(night)}
    command = as_cron_job(growing.folder)
    return subprocess.run(command, env=environment, check=False, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize("night", NIGHTS)
def test_a_published_night_is_a_success_also_when_a_later_one_has_the_status(
    published: Growing, tmp_path: Path, night: str
) -> None:
    assert verdict(published, tmp_path, night) == 0


def test_a_night_whose_job_was_stopped_is_none(published: Growing, tmp_path: Path) -> None:
    assert verdict(published, tmp_path, "2026-02-05") != 0


def test_nor_is_the_first_one(tmp_path: Path) -> None:
    assert verdict(Growing(tmp_path / "data"), tmp_path, NIGHTS[0]) != 0
