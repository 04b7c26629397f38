"""Nothing on disk is read in a way that can run code: no pickle, torch.load and np.load only in their safe modes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    str(path.relative_to(ROOT)): path for folder in ("ray_itl", "jobs") for path in (ROOT / folder).rglob("*.py")
}
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "_pickle"}
IN_MEMORY = {"ray_itl/distributed/codec.py", "ray_itl/embedding/on_ray.py"}
"""What these unpickle is what this program pickled a moment before, handed over by Ray between its own processes."""
SAFE = {"torch": ("weights_only", True), "np": ("allow_pickle", False), "numpy": ("allow_pickle", False)}


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a name or of a name's attribute, as "module.function"."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            base, _, rest = ast.unparse(node.func).partition(".")
            yield (f"{names.get(base, base)}.{rest}" if rest else names.get(base, base)), node


def unsafe(source: str, file: str) -> list[str]:
    """Say of every call that could run code from a file where it is."""
    wrong = []
    for name, call in _calls(ast.parse(source)):
        module, _, function = name.rpartition(".")
        options = {keyword.arg: keyword.value for keyword in call.keywords}
        if module.split(".")[0] in UNPICKLERS and function in ("load", "loads", "Unpickler", "open"):
            in_memory = function == "loads" and file in IN_MEMORY
            wrong += [] if in_memory else [f"{file}:{call.lineno} {name} unpickles"]
        if module in SAFE and function == "load":
            option, value = SAFE[module]
            given = options.get(option)
            if not (isinstance(given, ast.Constant) and given.value is value):
                wrong.append(f"{file}:{call.lineno} {name} without {option}={value}")
        if function in ("read_pickle", "full_load", "unsafe_load") or name in ("eval", "exec", "yaml.load"):
            wrong.append(f"{file}:{call.lineno} {name} runs what it reads")
        trusted = options.get("trust_remote_code", ast.Constant(False))
        if not (isinstance(trusted, ast.Constant) and trusted.value is False):
            wrong.append(f"{file}:{call.lineno} {name} may run code that comes with a model")
    return wrong


def test_nothing_from_disk_runs() -> None:
    assert [wrong for file, path in SOURCES.items() for wrong in unsafe(path.read_text(), file)] == []


def test_there_are_loads_to_check() -> None:
    calls = [name for path in SOURCES.values() for name, _ in _calls(ast.parse(path.read_text()))]
    assert {"torch.load", "numpy.load", "pickle.loads"} <= set(calls)
    assert set(SOURCES) >= IN_MEMORY


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(file)",
        "import pickle as p\np.loads(data)",
        "from pickle import loads as read\nread(data)",
        "from pickle import Unpickler\nUnpickler(file).load()",
        "import cloudpickle\ncloudpickle.loads(data)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "import numpy\nnumpy.load(path, allow_pickle=True)",
        "import pandas as pd\npd.read_pickle(path)",
        "import joblib\njoblib.load(path)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "eval(text)",
        "model = AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_the_check_can_fail(source: str) -> None:
    assert len(unsafe(source, "x.py")) == 1


def test_only_what_this_program_pickled_itself_is_unpickled_and_only_there() -> None:
    source = "import pickle\npickle.loads(data)"
    assert unsafe(source, "ray_itl/distributed/codec.py") == []
    assert len(unsafe("import pickle\npickle.load(file)", "ray_itl/distributed/codec.py")) == 1
