"""The text behind --help: every option of a schema with its default and its meaning."""

from __future__ import annotations

import re
from itertools import groupby
from textwrap import wrap
from typing import Any

import yaml

from ray_itl.options.declare import Described, described

_WIDTH = 120
_COLUMN = 37
"""Where meanings begin."""


def help_text(schema: type) -> str:
    """Return all options of a schema in their groups: name=default and meaning, in lines of 120 characters."""
    blocks = []
    for group, options in groupby(described(schema), lambda each: each.name.rpartition(".")[0]):
        of_group = sorted(options, key=lambda each: each.inherited)  # what is special to it first
        heading = wrap(f"{group}: {of_group[0].group_doc}", _WIDTH) if group else []
        blocks.append("\n".join([*heading, *(line for each in of_group for line in _lines(each))]))
    return "\n\n".join(blocks)


def _lines(each: Described) -> list[str]:
    head = f"  {each.spelled or each.name}={_shown(each.default)}"
    meaning = wrap(_meaning(each), _WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False) or [""]
    if len(head) > _COLUMN - 2:
        return [head, *(" " * _COLUMN + line for line in meaning)]
    first, *further = meaning
    return [f"{head:<{_COLUMN}}{first}".rstrip(), *(" " * _COLUMN + line for line in further)]


def _meaning(each: Described) -> str:
    """Return the meaning of an option, its choices first unless it names them all."""
    named = all(re.search(rf"(?<![\w]){re.escape(choice)}(?![\w])", each.doc) for choice in each.choices)
    return each.doc if named else f"{' | '.join(each.choices)}. {each.doc}".strip()


def _shown(default: Any) -> str:
    """Return a default as one writes it on the command line."""
    return yaml.safe_dump(default, default_flow_style=True, sort_keys=False).strip().removesuffix("...").strip()
