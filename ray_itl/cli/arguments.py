"""Arguments as people type them, written as Hydra's grammar wants them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from ray_itl.cli.names import carried, carried_if_needed
from ray_itl.errors import ConfigError

_CONDITION, _RULE, _ENCODER, _MACHINES = "pool.filter=", "acquisition=", "encoder=", "plan."
_PLAIN = re.compile(r"[\w/\-+.$%*@?|:\\ \t]*", re.ASCII)
"""What Hydra reads without quotes."""
_REFERENCE = re.compile(r"\$\{[^}]*\}")
_UNESCAPED = re.compile(r"\\([^0-9A-Za-z])")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_NAME = re.compile(r"[\w*-]+", re.ASCII)
_QUOTED_NAME = re.compile(r"[{,]\s*[\"']")
_PART = re.compile(r"\$\{[^}]*\}|\\.|.", re.DOTALL)


def readable_by_hydra(argument: str) -> str:
    """Return a command line's argument, in the quotes without which Hydra would not read it.

    So pool.filter="lang = 'en' and tokens < 2048" needs one pair of quotes, the shell's, and not two, and letters
    beyond ASCII need none at all. What Hydra reads as text or as null stays as it is. acquisition=module:Class names no
    file of configs/acquisition: it becomes the option acquisition.name, as encoder=NAME becomes encoder.name.
    """
    if argument.startswith(_ENCODER) and not argument.startswith(f"{_ENCODER}{{"):
        argument = argument.replace(_ENCODER, "encoder.name=", 1)
    if argument.startswith(_RULE) and ":" in argument and not argument.startswith(("acquisition={", "acquisition=[")):
        return argument.replace(_RULE, "acquisition.name=", 1)
    if argument.startswith(_MACHINES):
        return f"++{argument}"  # the option plan is true or false by default, and has no parts
    if argument.startswith("-") or "=" not in argument:
        return argument
    written = argument
    as_it_is, value = _read(argument)
    if argument.startswith(_CONDITION):
        if as_it_is and (value is None or isinstance(value, str | QuotedString)):
            return argument
        text = argument.removeprefix(_CONDITION)
        return _CONDITION + _in_quotes(text)
    typed = _Argument(argument)
    needs_help = as_it_is or not argument.isascii() or _QUOTED_NAME.search(argument)
    if needs_help and (not as_it_is or None in _names(value)):
        written = typed.written
        as_it_is, value = _read(written)
    if not as_it_is:
        return argument
    if isinstance(value, Mapping | list) and len(_names(value)) < typed.num_names:
        raise ConfigError(f"{argument} cannot be used: it names something twice within one {{ }}: keep one")
    return written


def _read(argument: str) -> tuple[bool, Any]:
    """Return whether Hydra reads an argument, and its value."""
    try:
        return True, OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return False, None


def _names(value: Any) -> list[Any]:
    """Return all names of mappings in a value, however deep."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [*(value if isinstance(value, Mapping) else ()), *(name for each in inner for name in _names(each))]


def _in_quotes(text: str) -> str:
    """Return a text in double quotes, so that Hydra reads these very letters."""
    text = re.sub(r'(\\*)(?="|$)', r"\1\1", text).replace('"', '\\"')
    return f'"{text}"'


class _Argument:
    """One argument, read from left to right and written anew."""

    def __init__(self, argument: str) -> None:
        name, _, self._value = argument.partition("=")
        self._name = ".".join(part if part.isascii() else carried(part) for part in name.split("."))
        self._place = 0
        self.num_names = 0
        """Of all mappings in it."""
        self.written = self._write()
        """The argument as Hydra reads it, if it can be."""

    def _write(self) -> str:
        parts = [self._element(",")]
        while self._place < len(self._value):  # Hydra's lists of values to try in turn, which it refuses in its words
            self._place += 1
            parts.append(self._element(","))
        return f"{self._name}={','.join(parts)}"

    def _element(self, ends: str) -> str:
        """Read and write a value, up to one of the letters that end it."""
        self._skip_blanks()
        if self._next() in ("{", "["):
            return self._container()
        if quoted := _QUOTED.match(self._value, self._place):
            self._place = quoted.end()
            self._skip_blanks()
            return quoted[0]
        text = self._text(ends)
        return text if _PLAIN.fullmatch(text) or _REFERENCE.fullmatch(text) else _in_quotes(_UNESCAPED.sub(r"\1", text))

    def _container(self) -> str:
        opening = self._value[self._place]
        closing = "}" if opening == "{" else "]"
        parts = []
        self._place += 1
        self._skip_blanks()
        while self._next() not in (closing, ""):
            name = f"{self._key()}: " if opening == "{" else ""
            parts.append(name + self._element(f",{closing}"))
            if self._next() == ",":
                self._place += 1
            self._skip_blanks()
        closed = self._next()
        self._place += 1
        self._skip_blanks()
        return f"{opening}{', '.join(parts)}{closed}"

    def _key(self) -> str:
        self.num_names += 1
        self._skip_blanks()
        if quoted := _QUOTED.match(self._value, self._place):
            self._place = quoted.end()
            name = str(_read(f"a={quoted[0]}")[1])
            name = name if _NAME.fullmatch(name) and carried_if_needed(name) == name else carried(name)
        else:
            text = self._text(":,}")
            name = carried(None) if text.lower() == "null" else text
            name = name if name.isascii() else carried(_UNESCAPED.sub(r"\1", name))
        self._skip_blanks()
        if self._next() == ":":
            self._place += 1
        return name

    def _text(self, ends: str) -> str:
        """Read letters up to one that ends them; those after a backslash, and in ${...}, do not."""
        first = self._place
        while self._place < len(self._value) and self._value[self._place] not in ends:
            part = _PART.match(self._value, self._place)
            self._place = len(self._value) if part is None else part.end()
        return self._value[first : self._place].strip(" \t")

    def _next(self) -> str:
        return self._value[self._place : self._place + 1]

    def _skip_blanks(self) -> None:
        while self._next() in (" ", "\t"):
            self._place += 1
