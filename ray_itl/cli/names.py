"""Names that Hydra has no way to write or to hold: null, words in quotes, letters beyond ASCII.

On their way through it they are called otherwise: `{größe: 1}` is read as `{__name_...: 1}`, and restored once all
options are composed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import omegaconf._utils

from ray_itl.errors import ConfigError

_CARRIED = re.compile(r"__name_((?:[0-9a-f]{2})+)")


def carried(name: str | None) -> str:
    """Return what a name is called on its way through Hydra."""
    return f"__name_{json.dumps(name).encode().hex()}"


def _restored(name: Any) -> Any:
    found = _CARRIED.fullmatch(name) if isinstance(name, str) else None
    return name if found is None else json.loads(bytes.fromhex(found[1]))


def with_names(values: Any) -> Any:
    """Return composed options with their names restored; what is said twice of one is joined, the last word counts."""
    if isinstance(values, list):
        return [with_names(value) for value in values]
    if not isinstance(values, Mapping):
        return values
    named: dict[Any, Any] = {}
    for name, value in values.items():
        own, value = _restored(name), with_names(value)
        both = isinstance(value, Mapping) and isinstance(named.get(own), Mapping)
        named[own] = {**named[own], **value} if both else value
    return named


def words_with_names(message: str) -> str:
    """Return a message of Hydra's with the names restored."""
    return _CARRIED.sub(lambda found: str(_restored(found[0])), message)


def let_yaml_have_null_as_a_name() -> None:
    """Make OmegaConf, which holds no such name, read one, and refuse two names that YAML reads as the same."""
    make_loader: Any = omegaconf._utils.get_yaml_loader  # there is no public place for a loader
    if hasattr(make_loader, "__wrapped__"):
        return

    def get_yaml_loader() -> Any:
        base = make_loader()

        class Loader(base):
            def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
                names = [key.value for key, _ in node.value]
                found = super().construct_mapping(node, deep=deep)
                if len(found) < len(names):
                    raise ConfigError(f"{', '.join(map(str, names))}: YAML reads two of these names as the same")
                return {carried(None) if name is None else name: value for name, value in found.items()}

        return Loader

    get_yaml_loader.__wrapped__ = make_loader  # pyright: ignore[reportFunctionMemberAccess]
    omegaconf._utils.get_yaml_loader = get_yaml_loader
