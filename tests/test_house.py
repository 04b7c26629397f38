"""What gets installed is pinned; the package is whole; engines sort stably."""

import ast
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_direct_requirement_is_pinned_to_a_version_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)
    wanted = [*PROJECT["project"]["dependencies"]]
    for group in [*PROJECT["project"]["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]:
        wanted += group
    for requirement in map(Requirement, wanted):
        if canonicalize_name(requirement.name) != "ray-itl":
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_files_of_the_package_that_are_not_python_are_installed_too() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    places = [path for folder in ("ray_itl", "configs") for path in (ROOT / folder).rglob("*.*")]
    files = [path for path in places if path.suffix not in {".py", ".pyc"}]
    assert len(files) > 20
    assert {path.suffix for path in files} == {".yaml", ".css", ".js", ".j2"}
    assert all(any(fnmatch(path.name, pattern) for pattern in patterns["*"]) for path in files)


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
