"""Options as people type them, made readable for Hydra."""

from __future__ import annotations

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

_CONDITION = "pool.filter="


def readable_by_hydra(argument: str) -> str:
    """Return a command line's argument, a condition in the quotes without which Hydra would not read it.

    So pool.filter="lang = 'en' and tokens < 2048" needs one pair of quotes, the shell's, and not two. What Hydra reads
    as text or as null stays as it is.
    """
    if not argument.startswith(_CONDITION):
        return argument
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        value = ()
    if value is None or isinstance(value, str | QuotedString):
        return argument
    text = re.sub(r'(\\*)(?="|$)', r"\1\1", argument.removeprefix(_CONDITION)).replace('"', '\\"')
    return f'{_CONDITION}"{text}"'
