"""Names that Hydra has no way to write or to hold: null, words in quotes, letters beyond ASCII.

On their way through it they are called otherwise: `{größe: 1}` is read as `{__name_...: 1}`, and restored once all
options are composed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import omegaconf._utils

from ray_itl.errors import ConfigError

_NO_TEXT = re.compile(r"null|true|false|[-+]?(?:nan|inf|[\d_.]+(?:e[-+]?\d+)?)", re.IGNORECASE)
"""What Hydra takes for something else than text."""
_CARRIED = re.compile(r"__name_((?:[0-9a-f]{2})+)")


def carried(name: str | None) -> str:
    """Return what a name is called on its way through Hydra."""
    return f"__name_{json.dumps(name).encode().hex()}"


def carried_if_needed(name: Any) -> Any:
    """Return what a name of a file of options is called, so that it is the same as on the command line."""
    if name is None or (isinstance(name, str) and (not name.isascii() or _NO_TEXT.fullmatch(name))):
        return carried(name)
    return name


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


@contextmanager
def names_in_files() -> Iterator[None]:
    """Let files of options name what the command line may, and refuse two names in them that YAML reads as the same."""
    make_loader: Any = omegaconf._utils.get_yaml_loader  # there is no public place for a loader

    def get_yaml_loader() -> Any:
        base = make_loader()

        class Loader(base):
            def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
                names = [key.value for key, _ in node.value]
                found = super().construct_mapping(node, deep=deep)
                if len(found) < len(names):
                    raise ConfigError(f"{', '.join(map(str, names))}: YAML reads two of these names as the same")
                return {carried_if_needed(name): value for name, value in found.items()}

        return Loader

    omegaconf._utils.get_yaml_loader = get_yaml_loader
    try:
        yield
    finally:
        omegaconf._utils.get_yaml_loader = make_loader
