"""The wheel, installed into a clean virtual environment with its declared dependencies only, works from another folder.

That environment takes minutes and 2 GB: pytest's cache keeps it until the dependencies change.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_itl import select
from tests.helpers import Files
from tests.jobs.head import running_head
from tests.jobs.helpers import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]  # the first time, PyTorch and Ray are installed

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "ray_itl", "configs")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
Ran = subprocess.CompletedProcess[str]

SELECT = """
import json, sys
from ray_itl import select

if __name__ == "__main__":
    pool, target, num_shards = sys.argv[1:]
    print(json.dumps(select(pool, target, 12, num_shards=int(num_shards)).ids))
"""


def succeed(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> Ran:
    """Run a command that has to end with 0."""
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{shlex.join(command)}\n{ran.stdout}\n{ran.stderr}"
    return ran


def sources_in(folder: Path) -> Path:
    """Copy what is built from: building leaves files behind."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@dataclass(frozen=True)
class Place:
    """A folder with data where a user works, and the environment that is active there."""

    files: Files
    programs: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of this checkout: no PYTHONPATH, and another environment's programs."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
        paths = f"{self.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return kept | {"PATH": paths, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}

    @property
    def rows(self) -> list[str]:
        """Options: a pool, a target and how many rows."""
        return [f"pool.path={self.files.pool}", f"target.path={self.files.target}", "selection.n=12"]

    def run(self, *command: str) -> Ran:
        """Run a command as from a shell in this folder."""
        program = shutil.which(command[0], path=str(self.programs)) or command[0]
        return subprocess.run(
            [program, *command[1:]],
            cwd=self.files.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def picks(self, run: str) -> list[int]:
        return pq.read_table(self.files.folder / run / "selection.parquet").column("id").to_pylist()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    sources = sources_in(folder)
    succeed([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", str(sources)], folder)
    (built,) = (folder / "dist").glob("ray_itl-*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of programs of a clean environment in which the wheel is installed."""
    assert request.config.cache is not None
    kept = request.config.cache.mkdir("wheel-environments")
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    contents = json.dumps([(ROOT / "constraints.txt").read_text(), dependencies, sys.version])
    clean = kept / hashlib.sha256(contents.encode()).hexdigest()[:16]
    install = [*PIP, "--python", str(clean / "bin" / "python"), "install"]
    install += ["--constraint", str(ROOT / "constraints.txt")]
    if not (clean / "complete").exists():
        for other in kept.iterdir():
            shutil.rmtree(other)
        venv.create(clean, with_pip=False)
        succeed([*install, "torch"], kept)  # first and alone: what asks for any torch then finds the pinned one
        succeed([*install, str(wheel)], kept)
        (clean / "complete").touch()
    succeed([*install, "--no-deps", "--force-reinstall", str(wheel)], kept)
    return clean / "bin"


@pytest.fixture(scope="module")
def place(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(Files(tmp_path_factory.mktemp("user")), programs)


@pytest.fixture(scope="module")
def expected(place: Place) -> list[int | str]:
    return select(place.files.pool, place.files.target, 12).ids


@pytest.mark.parametrize("num_shards", [0, 2])
def test_select_in_this_process_and_on_shards(place: Place, expected: list[int | str], num_shards: int) -> None:
    script = place.files.folder / "choose.py"
    script.write_text(SELECT)
    ran = place.run("python", str(script), str(place.files.pool), str(place.files.target), str(num_shards))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == expected


def test_the_code_and_its_options_are_those_of_the_wheel(place: Place) -> None:
    code = "import ray_itl, ray_itl.configs; print(ray_itl.__file__, ray_itl.configs.__file__)"
    ran = place.run("python", "-c", code)
    assert all(Path(path).is_relative_to(place.programs.parent) for path in ran.stdout.split()), ran.stdout + ran.stderr
    missing = place.run("python", "-c", "import plotly, sklearn")
    assert missing.returncode == 1  # it is clean


def test_curate_and_the_command_that_it_hints_at(place: Place, expected: list[int | str]) -> None:
    ran = place.run("ray-itl", "curate", *place.rows, "run.report=false", "cluster.num_shards=0", "run.dir=mine")
    assert ran.returncode == 0, ran.stderr
    assert place.picks("mine") == expected
    hint = ran.stdout.partition("to check them: ")[2].strip()
    assert hint == f"ray-itl verify run.dir={place.files.folder / 'mine'}"
    checked = place.run(*shlex.split(hint))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "checked 12 of 12 picks by itl against 300 rows" in checked.stdout


def test_the_demo_names_the_extra_that_it_needs(place: Place) -> None:
    ran = place.run("ray-itl", "curate")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1
    assert "ray_itl[demo]" in ran.stderr


def test_without_the_extra_for_it_there_is_no_report_and_a_line_that_names_it(place: Place) -> None:
    ran = place.run("ray-itl", "curate", *place.rows, "cluster.num_shards=0", "run.dir=reported")
    assert ran.returncode == 0, ran.stderr
    assert "ray_itl[report]" in ran.stderr.splitlines()[-1]
    assert not (place.files.folder / "reported" / "report.html").exists()


def test_python_m_and_the_help_of_every_command(place: Place) -> None:
    assert "Usage: python -m ray_itl COMMAND" in place.run("python", "-m", "ray_itl").stdout
    for command in ("curate", "embed", "finetune", "prepare", "verify"):
        ran = place.run("ray-itl", command, "--help")
        assert f"Usage: ray-itl {command} " in ran.stdout, ran.stderr


def test_a_submitted_job_needs_no_working_dir(place: Place, expected: list[int | str]) -> None:
    folder = place.files.folder
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        patch.chdir(folder)  # where the head starts, and with it the job
        with running_head(place.programs) as head:
            options = ["cluster.num_shards=2", "cluster.cpus_per_shard=0.5", f"run.dir={folder / 'submitted'}"]
            submit = [str(place.programs / "ray"), "job", "submit", "--address", head.url, "--"]
            ran = head.run([*submit, "ray-itl", "curate", *place.rows, "run.report=false", *options])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert place.picks("submitted") == expected
    assert f"ray-itl verify run.dir={folder / 'submitted'}" in ran.stdout


def test_an_editable_install_has_the_options_of_its_checkout(tmp_path: Path) -> None:
    """With this environment's dependencies, on loan by a .pth file."""
    sources = tmp_path / "checkout"
    sources.mkdir()
    sources_in(sources)
    clean = tmp_path / "environment"
    venv.create(clean, with_pip=False)
    (packages,) = clean.glob("lib/*/site-packages")
    (packages / "lent.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    python = str(clean / "bin" / "python")
    succeed([*PIP, "--python", python, "install", "--no-deps", "--no-build-isolation", "--editable", "."], sources)
    user = tmp_path / "user"
    user.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{clean / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
    code = "import ray_itl, ray_itl.configs; print(ray_itl.__file__, ray_itl.configs.__file__)"
    files = succeed([python, "-c", code], user, environment).stdout.split()
    assert all(Path(path).is_relative_to(sources) for path in files), files
    (sources / "configs" / "verify.yaml").write_text(
        (sources / "configs" / "verify.yaml").read_text() + "      Edited.\n"
    )
    shown = succeed([str(clean / "bin" / "ray-itl"), "verify", "--help"], user, environment).stdout
    assert "Usage: ray-itl verify " in shown
    assert "Edited." in shown
