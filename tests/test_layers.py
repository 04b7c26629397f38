"""Imports point down only, heavy libraries stay in their layer, and importing the engine loads no Ray."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import ray_itl
from ray_itl.cli.main import COMMANDS
from tests.house import ROOT, all_imports, imports_of, modules_in

LAYERS = [
    {"ray_itl.errors", "ray_itl.text"},
    {"ray_itl.extras"},
    {"ray_itl.images"},
    {"ray_itl.core", "ray_itl.io", "ray_itl.report"},
    {"ray_itl.options", "ray_itl.cluster"},
    {"ray_itl.sources"},
    {"ray_itl.shards", "ray_itl.runs", "ray_itl.training"},
    {"ray_itl.distributed", "ray_itl.observability", "ray_itl.selection"},
    {"ray_itl.embedding"},
    {"ray_itl.curation"},
    {"ray_itl.ticks", "ray_itl.rounds", "ray_itl.api", "ray_itl.queries"},
    {"ray_itl.verification", "ray_itl.experiments", "ray_itl.loaded"},
    {"ray_itl.cli"},
    {*(f"ray_itl.cli.{name}" for name in COMMANDS)},
    {"ray_itl", "ray_itl.cli.main"},
    {"ray_itl.__main__", "jobs", "benchmarks"},
]
"""From the bottom up. A room may import itself and what is below; rooms side by side do not meet."""
PLACED = {name for layer in LAYERS for name in layer}
NEIGHBOURS = {("ray_itl.text", "ray_itl.errors")}
"""What may be imported from the side all the same."""
PLACES = {
    "hydra": {"ray_itl.cli", "benchmarks"},
    "omegaconf": {"ray_itl.cli", "benchmarks"},
    "yaml": {"ray_itl.options"},
    "sqlglot": {"ray_itl.sources.sql"},
    "ray": {
        *("ray_itl.cluster", "ray_itl.distributed", "ray_itl.training.ray_trainer", "ray_itl.training.worker_group"),
        *("ray_itl.training.trl_sft", "ray_itl.embedding.on_ray"),
    },
    "pyarrow": {
        *("ray_itl.io", "ray_itl.sources", "ray_itl.shards", "ray_itl.runs", "ray_itl.distributed", "ray_itl.training"),
        *("ray_itl.curation", "ray_itl.embedding", "ray_itl.ticks", "ray_itl.rounds", "ray_itl.api"),
        *("ray_itl.queries", "ray_itl.loaded"),
        *("ray_itl.selection", "ray_itl.verification", "ray_itl.experiments", "ray_itl.report.notebook", "benchmarks"),
    },
    "PIL": {"ray_itl.experiments", "ray_itl.images"},
    "transformers": {"ray_itl.training.models"},
    "sentence_transformers": {"ray_itl.embedding.sentence_models", "benchmarks"},
    "timm": {"ray_itl.embedding.timm_models"},
    "plotly": {"ray_itl.report"},
    "jinja2": {"ray_itl.report"},
    "rich": {"ray_itl.observability.live"},
    "mlflow": {"ray_itl.observability.mlflow_log"},
    "wandb": {"ray_itl.observability.wandb_log"},
    "trl": {"ray_itl.training.trl_sft"},
    "tensorboardX": {"ray_itl.observability.tensorboard_log"},
    "pandas": {"ray_itl.selection"},
    **{peer: {"benchmarks.peers"} for peer in ("activeft", "apricot", "faiss", "submodlib")},
}
"""Where a library may be imported; libraries not named here may be imported anywhere but in the engine."""
CORE_LIBRARIES = set(sys.stdlib_module_names) | {"torch", "numpy"}
MODULES = modules_in(ROOT)
IMPORTS = all_imports(MODULES)


def _place(module: str) -> str:
    """The layer's name for a module of this project."""
    parts = module.split(".")
    if module in PLACED or parts[0] != "ray_itl":
        return module if module in PLACED else parts[0]
    return ".".join(parts[:2])


def _height(module: str) -> int:
    return next(height for height, layer in enumerate(LAYERS) if _place(module) in layer)


def _violations(imports: dict[str, list[str]]) -> list[str]:
    """Say of every import that breaks a rule which one it breaks."""
    wrong = []
    for module, names in imports.items():
        for name in names:
            library, here = name.split(".")[0], _place(module)
            if library not in ("ray_itl", "jobs", "benchmarks"):
                allowed = PLACES.get(library, {here})
                if not any(module == place or module.startswith(f"{place}.") for place in allowed):
                    wrong.append(f"{module} imports {name}, which belongs into {sorted(allowed)}")
                if here == "ray_itl.core" and library not in CORE_LIBRARIES:
                    wrong.append(f"{module} imports {name}: the engine is torch and numpy")
            elif here != _place(name) and (here, _place(name)) not in NEIGHBOURS and _height(name) >= _height(module):
                wrong.append(f"{module} imports {name}, which is above or beside it")
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
        ("ray_itl.core.greedy", "from ray_itl.runs.ledger import Ledger"),
        ("ray_itl.core.greedy", "from ray_itl.io.atomic import write_atomic"),
        ("ray_itl.core.greedy", "def f():\n    import ray"),
        ("ray_itl.core.shard", "import pyarrow.parquet"),
        ("ray_itl.core.shard", "import scipy"),
        ("ray_itl.sources.schema", "from ray_itl.distributed import ray_pool"),
        ("ray_itl.sources.schema", "from ray_itl.curation.settings import CurationSettings"),
        ("ray_itl.sources.schema", "import sqlglot"),
        ("ray_itl.experiments.tasks", "import ray"),
        ("ray_itl.experiments.tasks", "from ray_itl.verification.verify import verify"),
        ("ray_itl.report.selection_page", "from ray_itl.sources import schema"),
        ("ray_itl.report.selection_page", "from ray_itl.io.atomic import write_atomic"),
        ("ray_itl.report.selection_page", "from ray_itl.curation.run import curate"),
        ("ray_itl.curation.run", "from ray_itl.cli.config import to_settings"),
        ("ray_itl.curation.run", "from omegaconf import DictConfig"),
        ("ray_itl.cli.config", "from jobs import curate"),
        ("ray_itl.cli.config", "from ray_itl.cli.curate import main"),
        ("ray_itl.cli.embed", "from ray_itl.cli.curate import main"),
        ("ray_itl.api", "from ray_itl.cli.main import main"),
        ("ray_itl.observability.status", "from ray_itl.curation.settings import CurationSettings"),
        ("ray_itl.observability.console", "import rich"),
        ("ray_itl.ticks.tick", "import ray"),
        ("ray_itl.training.loop", "import ray"),
        ("benchmarks.scaling", "import ray"),
        ("ray_itl.embedding.embedder", "import faiss"),
        ("ray_itl.curation.run", "from ray_itl.ticks.tick import run_tick"),
        ("ray_itl.errors", "import ray_itl"),
    ],
)
def test_the_rules_can_be_broken(module: str, source: str) -> None:
    """The check itself: each of these imports is a violation."""
    assert len(_violations({module: list(imports_of(source, set(MODULES)))})) >= 1


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


SETTINGS = [name for name in MODULES if name.endswith(".settings") and name.startswith("ray_itl.")]


@pytest.mark.parametrize("module", SETTINGS)
def test_options_load_no_readers(module: str) -> None:
    assert not _loaded(f"import {module}") & {"ray", "pyarrow", "hydra", "plotly", "rich"}


@pytest.mark.parametrize("module", ["ray_itl.observability.reporter", "ray_itl.observability.console", "ray_itl.text"])
def test_what_tells_of_a_run_loads_no_engine(module: str) -> None:
    assert not _loaded(f"import {module}") & {"ray", "pyarrow", "torch", "numpy", "plotly", "rich"}


def test_few_files_lie_at_the_top_and_every_room_has_a_map() -> None:
    top = [path.name for path in (ROOT / "ray_itl").glob("*.py")]
    assert len(top) <= 8, top
    maps = [path for path in (ROOT / "ray_itl").rglob("__init__.py") if path.parent != ROOT / "ray_itl"]
    assert len(maps) > 15
    for path in maps:
        tree = ast.parse(path.read_text())
        named = {other.stem for other in path.parent.glob("*.py")} - {"__init__"}
        missing = {name for name in named if not re.search(rf"\b{name}\b", ast.get_docstring(tree) or "")}
        assert not missing, f"{path.parent.name}/__init__.py does not say what {sorted(missing)} are for"
    folders = {path.parent for path in (ROOT / "ray_itl").rglob("*.py")}
    assert folders == {path.parent for path in maps} | {ROOT / "ray_itl"}


def test_all_that_the_package_offers_is_there() -> None:
    assert set(ray_itl.__all__) <= set(dir(ray_itl))
    assert all(getattr(ray_itl, name).__name__ == name for name in ray_itl.__all__)
    with pytest.raises(AttributeError, match="'ray_itl' has no attribute 'selct'"):
        _ = ray_itl.selct  # type: ignore[attr-defined]
