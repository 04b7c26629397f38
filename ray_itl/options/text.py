"""Settings as YAML, and from YAML or mappings: values of the declared types, of options that there are."""

from __future__ import annotations

import datetime
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from difflib import get_close_matches
from numbers import Integral, Real
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import yaml

from ray_itl.errors import ConfigError
from ray_itl.io.credentials import REMEDY, holds_credentials
from ray_itl.options.declare import default_of, described, types_of

SettingsT = TypeVar("SettingsT")
_TRUE, _FALSE = ("y", "yes", "true", "on", "1"), ("n", "no", "false", "off", "0")
_WORDS = {*_TRUE, *_FALSE}
_LINE_ENDS = "\x85\u2028\u2029"


def no_option(name: str, known: Sequence[str]) -> str:
    """Return that an option does not exist, with the nearest that does, if one is near."""
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"there is no option {name}: {guess}--help lists all of them"


def from_mapping(values: Mapping[Any, Any], schema: type[SettingsT]) -> SettingsT:
    """Return checked settings of nested values; options that are left out have their defaults.

    Raises:
        ConfigError: a value of the wrong type or out of range, one that holds credentials, or an option that there is
            not (names the option).
    """
    known = [each.name for each in described(schema)]
    defaults = {each.name: default_of(each) for each in fields(schema)}  # pyright: ignore[reportArgumentType]
    settings = _build(values, schema, defaults, "", known)
    for option, text in _texts(settings):
        if holds_credentials(text):
            raise ConfigError(f"{option} holds credentials: {REMEDY}")
    return settings


def _build(values: Mapping[Any, Any], schema: type, defaults: Mapping[str, Any], prefix: str, known: list[str]) -> Any:
    for name in values:
        if name not in defaults:
            raise ConfigError(no_option(f"{prefix}{name}", known))
    given = dict(defaults)
    for name, value in values.items():
        default, path = defaults[name], f"{prefix}{name}"
        if not is_dataclass(default):
            given[name] = _fit(path, value, types_of(schema)[name])
        elif isinstance(value, Mapping):
            given[name] = _build(value, type(default), vars(default), f"{path}.", known)
        else:
            raise _refused(path, value, f"it is a group of options, like {{{next(iter(vars(default)))}: ...}}")
    return schema(**given)


def _refused(option: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{option}={value!r} cannot be used: {allowed}")


def _fit(option: str, value: Any, kind: Any) -> Any:
    """Return a value as the type that is declared for it: texts of numbers are read, and numbers written as texts."""
    if kind is Any:
        return plain(option, value)
    kinds = get_args(kind) if get_origin(kind) not in (list, dict) else ()
    if value is None and NoneType in kinds:
        return None
    (kind,) = [each for each in kinds or (kind,) if each is not NoneType]
    if get_origin(kind) is list:
        if not isinstance(value, list | tuple):
            raise _refused(option, value, "give a list, like [a,b]")
        return [_fit(option, inner, *get_args(kind)) for inner in value]
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise _refused(option, value, "give a mapping, like {a: b}")
        key_kind, inner = get_args(kind)
        fitted = [(_fit(option, key, key_kind), _fit(f"{option}.{key}", each, inner)) for key, each in value.items()]
        if len(found := dict(fitted)) < len(value):
            raise ConfigError(f"{option} names something twice, among {', '.join(map(repr, value))}: keep one")
        return found
    return _READERS[kind](option, value)


def _read_bool(option: str, value: Any) -> bool:
    word = str(value).lower()
    if not isinstance(value, bool | int | str) or word not in _TRUE + _FALSE:
        raise _refused(option, value, "give true or false")
    return word in _TRUE


def _read_int(option: str, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+\s*", value):
        return int(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise _refused(option, value, "give a whole number")


def _read_float(option: str, value: Any) -> float:
    if not isinstance(value, str | Real) or isinstance(value, bool):
        raise _refused(option, value, "give a number")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise _refused(option, value, "give a number") from None


def _read_str(option: str, value: Any) -> str:
    if isinstance(value, str | bool | Real | os.PathLike):
        return _utf8(option, os.fspath(value) if isinstance(value, os.PathLike) else str(value))
    raise _refused(option, value, "give a text")


def _utf8(option: str, text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # bytes that the system could not read as text
        raise _refused(option, text, "it is no UTF-8: rename what it names")
    return text


_READERS = {bool: _read_bool, int: _read_int, float: _read_float, str: _read_str}


def plain(option: str, value: Any) -> Any:
    """Return a value in the types that YAML has: mappings, lists, texts, numbers, true, false and null.

    Dates, times, decimals and UUIDs become the text by which they are written, numbers of NumPy and tensors Python's.

    Raises:
        ConfigError: it is of none of them, or two names of a mapping become one (names the option).
    """
    if value is None or isinstance(value, bool | bytes):
        return value
    if type(value).__module__ == "numpy" and value.shape == () and "datetime64" in str(value.dtype):
        return str(value)  # as a number it would depend on its unit
    if getattr(value, "shape", None) == ():
        return plain(option, value.item())
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, str | os.PathLike | Decimal | uuid.UUID):
        return _utf8(option, str(value))
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, Mapping):
        named = {plain(option, key): plain(f"{option}.{key}", inner) for key, inner in value.items()}
        if len(named) < len(value):
            raise ConfigError(f"{option} names something twice, among {', '.join(map(repr, value))}: keep one")
        return named
    if isinstance(value, list | tuple):
        return [plain(option, inner) for inner in value]
    kind = type(value).__name__
    raise ConfigError(
        f"{option} cannot hold values of type {kind}: give text, numbers, true or false, lists or mappings"
    )


def to_mapping(settings: Any, option: str = "") -> dict[str, Any]:
    """Return settings as nested mappings of plain values."""
    found = {}
    for name, value in vars(settings).items():
        path = f"{option}.{name}".lstrip(".")
        found[name] = to_mapping(value, path) if is_dataclass(value) else plain(path, value)
    return found


def _texts(value: Any, option: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in settings with the name of its option."""
    if isinstance(value, str):
        yield option, value
    elif is_dataclass(value):
        for name, inner in vars(value).items():
            yield from _texts(inner, f"{option}.{name}".lstrip("."))
    elif isinstance(value, Mapping | list):
        for part in value.items() if isinstance(value, Mapping) else enumerate(value):
            for inside in part:
                yield from _texts(inside, option)


def with_overrides(settings: SettingsT, overrides: Mapping[str, Any]) -> SettingsT:
    """Return a copy of settings with some options, named like "acquisition.name", replaced and checked.

    A mapping is added to the one that is there.

    Raises:
        ConfigError: an option that there is not, or a value of the wrong type or out of range.
    """
    values = to_mapping(settings)
    known = [each.name for each in described(type(settings))]
    for option, value in overrides.items():
        *groups, last = str(option).split(".")
        place = values
        for group in groups:
            place = place.get(group) if isinstance(place, Mapping) else None
        if not isinstance(place, dict):
            raise ConfigError(no_option(str(option), known))
        place[last] = _merged(place.get(last), value)
    return from_mapping(values, type(settings))


def _merged(before: Any, value: Any) -> Any:
    if not isinstance(before, Mapping) or not isinstance(value, Mapping):
        return value
    return {**before, **{key: _merged(before.get(key), inner) for key, inner in value.items()}}


def from_yaml(text: str, schema: type[SettingsT]) -> SettingsT:
    """Return checked settings from what `to_yaml` wrote; ConfigError where the text is something else."""
    try:
        loader = _Loader(text)
        try:
            values = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"the options cannot be read: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"the options cannot be read: they are a {type(values).__name__}")
    return from_mapping(values or {}, schema)


def to_yaml(settings: Any) -> str:
    """Return settings as YAML that `--config-dir` and `--config-name` can replay."""
    return yaml.dump(
        to_mapping(settings), Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or 1.2 would take for something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        is_word = text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper())
        style = "'" if is_word or _is_numeric(text) else None
        if any(each in text for each in _LINE_ENDS):
            style = '"'  # other quotes would turn them into spaces
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_Dumper.add_representer(str, _Dumper.represent_text)


class _Loader(yaml.SafeLoader):
    """Reads as Hydra does: 1e-4 is a number and 2026-01-31 a text, and a name may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; ConstructorError where a name stands twice."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        found = super().construct_mapping(node, deep=deep)
        if len(found) < len(names):
            if twice := [name for name in names if names.count(name) > 1]:
                raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {twice[0]}", node.start_mark)
            raise yaml.constructor.ConstructorError(
                None, None, f"found {', '.join(names)}: two of them are the same", node.start_mark
            )
        return found


_FLOAT, _TIMESTAMP = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?(?:\d+(?:_\d+)*(?:\.[\d_]*)?|\.\d+(?:_\d+)*)[eE][-+]?\d+$"), list("-+0123456789.")
)
