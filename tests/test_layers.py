"""Imports point down only, heavy libraries stay in their layer, and importing the engine loads no Ray."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ray_itl

ROOT = Path(__file__).parents[1]

LAYERS = [
    {"ray_itl.errors", "ray_itl.option_checks"},
    {"ray_itl.core"},
    {"ray_itl.io"},
    {"ray_itl.datasets"},
    {"ray_itl.distributed"},
    {"ray_itl.training"},
    {"ray_itl.report", "RUN"},
    {"ray_itl.config", "ray_itl.command_line"},
    {
        *("ray_itl.api", "ray_itl.verification", "ray_itl.finished_run", "ray_itl.benchmark", "ray_itl.experiments"),
        "ray_itl.ticks",
    },
    {"ray_itl"},
    {"jobs"},
]
"""From the bottom up. RUN stands for every other module directly in ray_itl; a layer may import itself."""
NOT_FOR_REPORT = {"ray_itl.io", "ray_itl.distributed", "ray_itl.training", "RUN"}
PLACES = {
    "hydra": {"ray_itl.config", "ray_itl.command_line", "jobs"},
    "sqlglot": {"ray_itl.io"},
    "omegaconf": {"ray_itl.config", "jobs"},
    "ray": {"ray_itl.distributed", "ray_itl.training", "jobs"},
    "pyarrow": {
        "ray_itl.io",
        "ray_itl.datasets",
        "ray_itl.distributed",
        "ray_itl.training",
        "RUN",
        "ray_itl.verification",
        "ray_itl.finished_run",
        "ray_itl.benchmark",
        "ray_itl.experiments",
        "ray_itl.ticks",
        "jobs",
    },
    "PIL": {"ray_itl.datasets", "ray_itl.training"},
    "transformers": {"ray_itl.datasets", "ray_itl.training"},
    "plotly": {"ray_itl.report"},
    "jinja2": {"ray_itl.report"},
    "rich": {"RUN"},
    "mlflow": {"RUN"},
    "tensorboardX": {"RUN"},
    "pandas": {"RUN"},
    **{peer: {"ray_itl.benchmark"} for peer in ("activeft", "apricot", "faiss", "submodlib")},
}
"""Where a library may be imported; libraries not named here may be imported anywhere but in the engine."""
CORE_LIBRARIES = set(sys.stdlib_module_names) | {"torch", "numpy"}


def _modules() -> dict[str, Path]:
    found = {}
    for folder in ("ray_itl", "jobs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(source: str, modules: set[str]) -> Iterator[str]:
    """Every import of a source, also inside functions; `from package import module` yields the module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            base = str(node.module)
            full = [f"{base}.{alias.name}" for alias in node.names]
            yield from {name if name in modules else base for name in full}


IMPORTS = {name: sorted(set(_imports(path.read_text(), set(MODULES)))) for name, path in MODULES.items()}


def _place(module: str) -> str:
    """The layer's name for a module of this project."""
    parts = module.split(".")
    if parts[0] == "jobs" or module == "ray_itl":
        return parts[0]
    name = ".".join(parts[:2])
    return name if any(name in layer for layer in LAYERS) else "RUN"


def _height(module: str) -> int:
    place = _place(module)
    return next(height for height, layer in enumerate(LAYERS) if place in layer)


def _violations(imports: dict[str, list[str]]) -> list[str]:
    """Say of every import that breaks a rule which one it breaks."""
    wrong = []
    for module, names in imports.items():
        for name in names:
            library, here = name.split(".")[0], _place(module)
            if library not in ("ray_itl", "jobs"):
                if here not in PLACES.get(library, {here}):
                    wrong.append(f"{module} imports {name}, which belongs into {sorted(PLACES[library])}")
                if here == "ray_itl.core" and library not in CORE_LIBRARIES:
                    wrong.append(f"{module} imports {name}: the engine is torch and numpy")
            elif _height(name) > _height(module):
                wrong.append(f"{module} imports {name}, which is above it")
            elif here == "ray_itl.report" and _place(name) in NOT_FOR_REPORT:
                wrong.append(f"{module} imports {name}: a report is made of data it is given")
    return wrong


def _cycle(imports: dict[str, list[str]]) -> list[str] | None:
    """Return a chain of modules that imports itself, if there is one."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        for name in imports.get(module, []):
            found = visit(name, [*trail, module])
            if found:
                return found
        done.add(module)
        return None

    return next((found for module in imports if (found := visit(module, []))), None)


def test_imports_point_down() -> None:
    assert len(MODULES) > 30
    assert _violations(IMPORTS) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    assert _cycle(IMPORTS) is None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ray_itl.core.greedy", "from ray_itl.io.ledger import Ledger"),
        ("ray_itl.core.greedy", "def f():\n    import ray"),
        ("ray_itl.core.shard", "import pyarrow.parquet"),
        ("ray_itl.core.shard", "import scipy"),
        ("ray_itl.io.ids", "from ray_itl.distributed import ray_pool"),
        ("ray_itl.io.ids", "from ray_itl.settings import CurationSettings"),
        ("ray_itl.datasets.tasks", "import ray"),
        ("ray_itl.datasets.tasks", "from ray_itl.distributed import ray_pool"),
        ("ray_itl.report.page", "from ray_itl.io import ids"),
        ("ray_itl.report.page", "from ray_itl.curation import curate"),
        ("ray_itl.curation", "from ray_itl.config import to_settings"),
        ("ray_itl.curation", "from omegaconf import DictConfig"),
        ("ray_itl.config", "from jobs import curate"),
        ("ray_itl.io.lease", "from ray_itl.ticks.record import TickRecord"),
        ("ray_itl.ticks.tick", "import ray"),
        ("ray_itl.benchmark.scaling", "import ray"),
        ("ray_itl.training.embedders", "import faiss"),
        ("ray_itl.curation", "from ray_itl.ticks.tick import run_tick"),
        ("ray_itl.errors", "import ray_itl"),
    ],
)
def test_the_rules_can_be_broken(module: str, source: str) -> None:
    """The check itself: each of these imports is a violation."""
    assert len(_violations({module: list(_imports(source, set(MODULES)))})) >= 1


def test_circles_can_be_found() -> None:
    assert _cycle({"a": ["b"], "b": ["c", "d"], "c": [], "d": ["b"]}) == ["b", "d", "b"]
    assert _cycle({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) is None


def _loaded(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the libraries that got loaded."""
    check = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def test_importing_the_package_and_all_of_the_engine_loads_the_engine_only() -> None:
    core = [name for name in MODULES if name.startswith("ray_itl.core")]
    assert len(core) > 15
    assert not _loaded("import ray_itl, " + ", ".join(core)) & {"ray", "pyarrow", "hydra"}


def test_the_api_loads_no_ray_and_the_check_for_it_can_fail() -> None:
    assert "ray" not in _loaded("import ray_itl\nray_itl.select")
    assert "ray" in _loaded("import ray")


def test_all_that_the_package_offers_is_there() -> None:
    assert set(ray_itl.__all__) <= set(dir(ray_itl))
    assert all(getattr(ray_itl, name).__name__ == name for name in ray_itl.__all__)
    with pytest.raises(AttributeError, match="'ray_itl' has no attribute 'selct'"):
        _ = ray_itl.selct  # type: ignore[attr-defined]
