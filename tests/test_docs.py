"""What README.md and docs/ tell people to do works: every block runs, or says why not and is checked otherwise.

A guide's blocks run in order, in one new folder. A text block after a block that runs is what the latter printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig

from benchmarks.settings import BenchmarkSettings
from ray_itl.cli.arguments import readable_by_hydra
from ray_itl.options.declare import described
from tests.guides import (
    GUIDES,
    KINDS,
    ROOT,
    Block,
    blocks_of,
    commands_of,
    files_named,
    jobs_named,
    journeys_of,
    lines_missing,
    make_targets_named,
    modules_named,
    num_fences_and_needs,
    options_named,
    rows_of,
    words_named,
)
from tests.jobs.head import running_head
from tests.jobs.helpers import compose_job, load_job
from tests.test_layers import LAYERS

NOT_RUN = {
    "README.md": {"make": 1},
    "docs/fine-tuning.md": {"minutes": 3, "data": 6},
    "docs/kubernetes.md": {"kubernetes": 3},
    "docs/on-a-cluster.md": {"cluster": 2},
    "docs/scheduled-curation.md": {"cluster": 1},
    "docs/texts.md": {"data": 1},
}
"""Blocks that need what a laptop has not, or not in a minute: one more or less of them here is a decision."""
_COMMANDS = {".", "make", "ray", "export", "python", "ray-itl", "cd", "cp", "docker", "kubectl", "openssl"}
_RULES = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_JOBS = [(guide, job, options) for guide, text in GUIDES.items() for job, options in jobs_named(text)]


class Desk:
    """A folder with nothing in it, where a guide is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}

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
        environment = os.environ | {"PATH": paths, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1"}
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
            printed = None
        else:
            printed = desk.run(block) if block.needs in run else None


@pytest.mark.cluster
@pytest.mark.parametrize("name", GUIDES)
def test_the_guide_can_be_followed(name: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    if name == "README.md":  # as `make demo`, which installs first; in this process, where Ray need not start
        recipe = "ray-itl curate"
        assert f"$(VENV)/bin/{recipe}\n" in (ROOT / "Makefile").read_text()
        expected = next(block for block in blocks_of(GUIDES[name]) if block.kind == "text")
        said = desk.run_bash(f"{recipe} cluster.num_shards=0")
        assert lines_missing(expected.text, said) == [], said
    follow(GUIDES[name], desk, {None})


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, needs in NOT_RUN.items() if "minutes" in needs])
def test_what_takes_minutes_can_be_followed(name: str, tmp_path: Path) -> None:
    follow(GUIDES[name], Desk(tmp_path), {"minutes"})


@pytest.mark.slow
def test_submitting_stopping_and_submitting_again_on_a_cluster_of_this_machine(tmp_path: Path) -> None:
    blocks = blocks_of(GUIDES["docs/on-a-cluster.md"])
    Desk(tmp_path).run(blocks[0])  # makes the files
    (text,) = [block.text for block in blocks if block.needs == "cluster" and "ray job submit" in block.text]
    with running_head() as head:
        text = text.replace("http://127.0.0.1:8265", head.url).replace("/data/pool", "/data/pool.parquet")
        ran = head.run(["bash", "-euo", "pipefail", "-c", text.replace("/data", str(tmp_path))])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "this run is finished already" in ran.stdout + ran.stderr
    assert (tmp_path / "runs/first/selection.parquet").is_file()


@pytest.mark.parametrize("name", GUIDES)
def test_nothing_is_skipped_unseen(name: str) -> None:
    blocks = blocks_of(GUIDES[name])
    assert num_fences_and_needs(GUIDES[name]) == (2 * len(blocks), sum(block.needs is not None for block in blocks))
    assert {block.kind for block in blocks} <= KINDS
    assert all(block.needs for block in blocks if block.kind == "cron")
    assert Counter(block.needs for block in blocks if block.needs) == NOT_RUN.get(name, {})


def test_output_of_what_is_not_run_is_printed_in_another_guide() -> None:
    for name, guide in GUIDES.items():
        blocks = blocks_of(guide)
        for before, block in pairwise(blocks):
            if block.kind == "text" and before.needs and before.needs != "make":
                assert any(block.text in other for each, other in GUIDES.items() if each != name), block.text


@pytest.mark.parametrize("name", NOT_RUN)
def test_what_is_not_run_is_at_least_shell_and_names_commands_that_there_are(name: str) -> None:
    for block in blocks_of(GUIDES[name]):
        if block.needs and block.kind == "bash":
            parsed = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False)
            assert (parsed.returncode, parsed.stderr) == (0, "")
            assert {words[0] for words in commands_of(block.text)} <= _COMMANDS


@pytest.mark.parametrize("name", GUIDES)
def test_files_make_targets_and_links_are_there(name: str) -> None:
    guide = GUIDES[name]
    assert [file for file in files_named(guide) if not (ROOT / file).exists()] == []
    assert make_targets_named(guide) <= _RULES
    assert all((ROOT / name).parent.joinpath(image).is_file() for image in re.findall(r'<img src="([^"]*)"', guide))
    for link, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", guide):
        to = (ROOT / name).parent / link if link else ROOT / name
        assert to.is_file(), link
        headings = re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/extending.md"])
def test_modules_and_names_of_the_code_are_there(name: str) -> None:
    places = [ROOT / "ray_itl", ROOT]
    lost = [each for each in modules_named(GUIDES[name]) if not any((place / each).exists() for place in places)]
    assert lost == []
    code = "\n".join(path.read_text() for place in ("ray_itl", "tests") for path in (ROOT / place).rglob("*.py"))
    assert words_named(GUIDES[name]) - set(re.findall(r"\w+", code)) == set()


def test_the_map_has_the_layers_that_are_enforced() -> None:
    rows = [set(re.findall(r"`([\w.]+)`", row[0])) for row in rows_of(GUIDES["docs/architecture.md"], "layer,")]
    tops = [{name.removeprefix("ray_itl.") for name in layer} for layer in reversed(LAYERS)]
    assert rows == tops


def test_journeys_count_the_files_that_they_pass() -> None:
    journeys = journeys_of(GUIDES["docs/architecture.md"])
    assert len(journeys) == 3
    assert all(told == len(files) for told, files in journeys), [(told, len(files)) for told, files in journeys]


def test_extras_that_are_named_exist() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    text = "\n".join(GUIDES.values())
    named = {extra for group in re.findall(r"(?:\.|ray_itl)\[([a-z,]+)\]", text) for extra in group.split(",")}
    named |= set(re.findall(r"extra `(\w+)`", text))
    assert named
    assert named <= extras


def test_the_readme_is_short_and_its_picture_light() -> None:
    assert len(GUIDES["README.md"].splitlines()) <= 150
    assert (ROOT / "docs" / "report.png").stat().st_size < 200_000


def test_every_guide_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\(((?:docs/)?[\w-]+\.md)\)", GUIDES["README.md"]))
    assert linked == set(GUIDES) - {"README.md"}


@pytest.mark.parametrize(("guide", "job", "options"), _JOBS, ids=lambda value: value if isinstance(value, str) else "")
def test_options_of_commands_are_options_of_the_job(guide: str, job: str, options: list[str]) -> None:
    assert (ROOT / "jobs" / f"{job}.py").is_file(), guide
    compose(job, *options)


@pytest.mark.parametrize("name", GUIDES)
def test_options_that_are_named_exist(name: str) -> None:
    assert options_named(GUIDES[name]) - known_options() == set()


def test_suites_of_benchmarks_that_are_named_exist() -> None:
    named = set(re.findall(r"python -m benchmarks suite=(\w+)", "\n".join(GUIDES.values())))
    (suites,) = [each.choices for each in described(BenchmarkSettings) if each.name == "suite"]
    assert named
    assert named <= set(suites)


@cache
def known_options() -> set[str]:
    return {option for job in ("curate", "embed", "finetune") for option in names_of(compose(job))}


def compose(job: str, *options: str) -> DictConfig:
    load_job(job)  # names its schema to Hydra
    return compose_job(job, *map(readable_by_hydra, options))


def names_of(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Names of all options, with those of the groups that they are in."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from names_of(value, f"{prefix}{key}.")


def test_the_checks_can_fail() -> None:
    guide = "```bash\nls\n```\n\n<!-- needs: cluster -->\n\n```bash\nray status\n```\n    ```\n"
    assert [block.needs for block in blocks_of(guide)] == [None, None]
    assert num_fences_and_needs(guide) == (5, 1)
    assert lines_missing("a\n...\nc\n", "a\nb\nc\n") == []
    assert lines_missing("c\na\n", "a\nb\nc\n") == ["a"]
    assert options_named("`pool.pth=x` and `selection.parquet`, `pool.dtype`") == {"pool.pth", "pool.dtype"}
    assert jobs_named("see `python jobs/curate.py pool.pth=1 selection.n=2`") == [
        ("curate", ["pool.pth=1", "selection.n=2"])
    ]
    assert jobs_named("`ray-itl verify run.dir=a`, `ray-itl --help`, `import ray_itl`, `python -m ray_itl embed`") == [
        ("verify", ["run.dir=a"]),
        ("embed", []),
    ]
    assert modules_named("in `core/a.py`, `core/` and `a.b`, not `and/or`") == {"core/a.py", "core/"}
    assert words_named("`Stop` and `MAX_ROWS` of `select`, `module:Class`, `SIGKILL=9`") == {"Stop", "MAX_ROWS"}
    assert journeys_of("**A: 3 files.** `a/b.py`, `a/c.py`\nand `a/b.py`.\n\n`a/d.py`") == [(3, {"a/b.py", "a/c.py"})]
    assert rows_of("| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n", "a") == [["1", "2"]]
    with pytest.raises(HydraException, match="pth"):
        compose("curate", "pool.pth=1")
