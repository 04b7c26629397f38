"""Where Hydra finds the YAML files of the options."""

from __future__ import annotations

from pathlib import Path


def config_path() -> str:
    """Return the folder configs/ beside the package where there is one, else the installed package of the same files.

    A checkout is often not what is installed: on the nodes of `ray job submit --working-dir .` nothing is, and with
    PYTHONPATH another version may be. The options have to be those of the code that runs.
    """
    folder = Path(__file__).parents[2] / "configs"
    return str(folder) if (folder / "curate.yaml").is_file() else "pkg://ray_itl.configs"
