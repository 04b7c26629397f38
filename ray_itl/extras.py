"""What is imported only when it is used: optional libraries, and parts that an option names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ray_itl.errors import ConfigError, MissingExtraError
from ray_itl.text import error_summary


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


def load_by_name(
    name: str, registered: Mapping[str, str], option: str, form: str = "module:factory"
) -> Callable[..., Any]:
    """Return the callable behind a registered name or "module:attribute".

    Args:
        name: What the user wrote.
        registered: Name -> "module:attribute".
        option: The option that was set to it, as it begins the message: "model.name".
        form: What a name that is not registered must look like, in the message.

    Raises:
        ConfigError: there is none; names `option` and what is registered.
    """
    path = registered.get(name, name)
    module_name, colon, attribute = path.partition(":")
    if not colon:
        known = ", ".join(sorted(registered))
        raise ConfigError(f"{option}={name!r} is not known: use one of {known}, or {form}")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever a module of the user's does as it is imported
        why = str(error) if isinstance(error, ImportError | AttributeError) else error_summary(error)
        raise ConfigError(
            f"{option}={name!r} cannot be imported ({why}): check the spelling, and that the module is installed or "
            "in the job's working directory"
        ) from error
    if not callable(found):
        raise ConfigError(f"{option}={name!r} is a {type(found).__name__}: name a class or function to call")
    return found
