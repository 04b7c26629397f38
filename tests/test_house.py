"""What the README tells people to do exists and works; what gets installed is pinned; the package is whole."""

import ast
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hydra.errors import HydraException
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.jobs.helpers import compose_job, load_job

ROOT = Path(__file__).parents[1]
README = re.sub(r"\$\([^)]*\)|\$\w+", "x", (ROOT / "README.md").read_text())  # with the shell's words filled in
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = [shlex.split(line, comments=True) for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
OPTION = re.compile(r"[a-z_]+(\.[a-z_]+)*=")


def jobs_in(words: list[str]) -> tuple[str, list[str]] | None:
    """Return the job that a command runs and what follows it."""
    for k, word in enumerate(words):
        if word.startswith("jobs/") and word.endswith(".py"):
            return word.removeprefix("jobs/").removesuffix(".py"), words[k + 1 :]
    return None


JOBS = [found for found in map(jobs_in, COMMANDS) if found]
EVERYWHERE = [found for line in README.replace("`", "\n").splitlines() if (found := jobs_in(line.split()))]


def test_the_readme_has_what_is_checked_here() -> None:
    assert ["make", "demo"] in COMMANDS
    assert ["make", "test"] in COMMANDS
    assert {name for name, _ in JOBS} == {"curate", "finetune", "verify"}
    assert len(EVERYWHERE) > len(JOBS) >= 4


def test_files_in_the_readme_are_there() -> None:
    named = set(re.findall(r"(?<![\w/.])(?:jobs|configs)/[\w./-]*\w", README))
    assert {"jobs/Dockerfile", "jobs/kubernetes", "jobs/kubernetes/network.yaml", "jobs/curate.py"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_make_targets_in_the_readme_exist() -> None:
    targets = {words[1] for words in COMMANDS if words[:1] == ["make"]} | set(re.findall(r"`make ([a-z-]+)`", README))
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= rules
    assert {"demo", "test", "help"} <= targets


@pytest.mark.parametrize(("job", "words"), EVERYWHERE, ids=lambda value: value if isinstance(value, str) else "")
def test_options_in_the_readme_are_options_of_the_job(job: str, words: list[str]) -> None:
    assert (ROOT / "jobs" / f"{job}.py").is_file()
    load_job(job)  # names its schema to Hydra
    compose_job(job, *(word for word in words if OPTION.match(word)))


def test_single_options_in_the_readme_are_options_of_a_job() -> None:
    named = [words[0] for text in re.findall(r"`([^`\n]+)`", README) if OPTION.match((words := text.split())[0])]
    assert len(named) >= 3
    for word in named:
        assert is_option("curate", word) or is_option("finetune", word), word


def is_option(job: str, word: str) -> bool:
    load_job(job)
    try:
        compose_job(job, word)
    except HydraException:
        return False
    return True


def test_an_option_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(Exception, match="nosuch"):
        compose_job("curate", "pool.nosuch=1")


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    exec(compile(code, "README.md", "exec"), {})
    assert "Selection(50 rows" in capsys.readouterr().out


def test_every_direct_requirement_is_pinned_to_a_version_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    for requirement in map(Requirement, wanted):
        if canonicalize_name(requirement.name) != "ray-itl":
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_files_of_the_package_that_are_not_python_are_installed_too() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    files = [path for path in (ROOT / "ray_itl").rglob("*.*") if path.suffix not in {".py", ".pyc"}]
    assert len(files) >= 3
    for path in files:
        package = ".".join(path.parent.relative_to(ROOT).parts)
        assert any(fnmatch(path.name, pattern) for pattern in patterns.get(package, [])), path


def unsafe_sorts(source: str) -> list[int]:
    """Lines that sort with np.sort or np.argsort, but not stably."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.sort", "np.argsort"):
            kinds = [ast.unparse(word.value) for word in node.keywords if word.arg == "kind"]
            if kinds != ["'stable'"]:
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("layer", ["core", "distributed"])
def test_engines_sort_stably(layer: str) -> None:
    """Ids may be variable-width strings, on which NumPy's default sort can end the process."""
    for path in (ROOT / "ray_itl" / layer).rglob("*.py"):
        assert unsafe_sorts(path.read_text()) == [], path


def test_an_unstable_sort_is_noticed() -> None:
    assert unsafe_sorts("a = np.sort(ids)\nb = np.argsort(ids, kind='stable')\nc = np.argsort(ids)") == [1, 3]
