"""Optional libraries: imported when they are used, missed with the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from ray_itl.errors import MissingExtraError


def load_extra(module: str, needed_by: str, extra: str) -> ModuleType:
    """Import and return a module of an optional library.

    Args:
        module: As it is imported, like "plotly.graph_objects".
        needed_by: What needs it, as it begins the message: "Selection.plot_gain".
        extra: The extra of ray_itl that installs it.

    Raises:
        MissingExtraError: the library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f'{needed_by} needs {package}, which is not installed: pip install "ray_itl[{extra}]"'
        ) from error
