"""What README.md and docs/ tell people to do works: every block of code runs, or says why not and is checked otherwise.

A guide's blocks run in order, in one new folder. A text block after a block that runs is what the latter printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf

from tests.guides import (
    GUIDES,
    KINDS,
    ROOT,
    Block,
    blocks_of,
    commands_of,
    files_named,
    job_in,
    jobs_named,
    lines_missing,
    make_targets_named,
    num_fences_and_needs,
    options_named,
)
from tests.jobs.helpers import compose_job, load_job

NOT_RUN = {
    "README.md": {"make": 1, "minutes": 1, "data": 1, "cluster": 3, "kubernetes": 1},
}
"""What blocks need that do not run in `make test`: a block more or less here is a decision."""
_RULES = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_JOBS = [(guide, job, options) for guide, text in GUIDES.items() for job, options in jobs_named(text)]


class Desk:
    """A folder with the project's jobs in it, where a guide is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names = folder, {"__name__": "__main__"}
        for name in ("jobs", "configs"):
            (folder / name).symlink_to(ROOT / name)

    def run(self, block: Block) -> str:
        """Run a block and return what it printed."""
        return self.run_python(block) if block.kind == "python" else self.run_bash(block.text)

    def run_python(self, block: Block) -> str:
        if block.file is not None:
            (self.folder / block.file).write_text(block.text)
            return ""
        printed = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(self.folder)
            exec(compile(block.text, "a guide", "exec"), self.names)
        return printed.getvalue()

    def run_bash(self, text: str) -> str:
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        packages = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PATH": paths, "PYTHONPATH": packages, "OMP_NUM_THREADS": "2"}
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{text}\n{ran.stdout}"
        return ran.stdout


def follow(guide: str, desk: Desk, run: set[str | None]) -> None:
    """Run the blocks of a guide that need one of some things (None: nothing), and compare what they print."""
    printed = None
    for block in blocks_of(guide):
        if block.kind == "text":
            assert printed is None or lines_missing(block.text, printed) == [], printed
        else:
            printed = desk.run(block) if block.needs in run else None


@pytest.mark.parametrize("name", GUIDES)
def test_the_guide_can_be_followed(name: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    if name == "README.md":  # as `make demo`, which installs first; in this process, where Ray need not start
        recipe = "python jobs/curate.py"
        assert f"$(RUN) {recipe.removeprefix('python ')}\n" in (ROOT / "Makefile").read_text()
        said, expected = desk.run_bash(f"{recipe} cluster.num_shards=0"), blocks_of(GUIDES[name])[1]
        assert lines_missing(expected.text, said) == [], said
    follow(GUIDES[name], desk, {None})


@pytest.mark.slow
def test_what_takes_minutes_can_be_followed(tmp_path: Path) -> None:
    for guide in GUIDES.values():
        follow(guide, Desk(tmp_path), {"minutes"})
