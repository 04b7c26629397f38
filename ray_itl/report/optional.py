"""The two optional packages of the report, imported only when a page is made."""

import importlib
from types import ModuleType

from ray_itl.errors import RayItlError


class MissingReportDependencyError(RayItlError, ImportError):
    """A package that only the report needs is not installed: names it and the command to install it."""


def load(name: str) -> ModuleType:
    """The module `name`.

    Raises:
        MissingReportDependencyError: it, or the package it belongs to, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingReportDependencyError(
            f'The HTML report needs {package}, which is not installed: pip install "ray_itl[report]"'
        ) from error
