"""Hydra's refusals in words that name the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ray_itl.options.text import no_option

_UNKNOWN = re.compile(r"Could not override '(.+)'")
_UNFIT = re.compile(r"Error merging override (.+)")
_NO_CHOICE = re.compile(r"Could not find '([^']+)/([^'/]+)'")
_FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
)
"""Hydra's own, which may be cut short: --config-n."""


def in_words(message: str, known: Sequence[str]) -> str:
    """Return Hydra's message about an option in one sentence; one of another kind as it is.

    Args:
        message: Of Hydra and of the error behind it, in some lines.
        known: Names of all options.
    """
    first, *further = [line.strip() for line in message.splitlines() if line.strip()]
    if found := _UNKNOWN.match(first):
        name = found[1]
        inside = re.search(r"^\s*full_key: (.+)$", message, re.MULTILINE)
        if inside and inside[1].startswith(f"{name}."):  # pool={a: 1} fails for pool.a
            name = inside[1]
        return no_option(name, known)
    if (found := _UNFIT.match(first)) and further:
        reason = further[0]
        return f"{found[1]} cannot be used: {'give a list, like [a,b]' if 'ListConfig' in reason else reason}"
    if found := _NO_CHOICE.search(first):
        choices = [line for line in further[1:] if line]
        place = choices.index("Config search path:") if "Config search path:" in choices else len(choices)
        return f"{found[1]}={found[2]} cannot be used: use one of {', '.join(choices[:place])}"
    return message.split("Config search path:")[0]


def unknown_flag(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with the first argument like --seed that Hydra has not; None where there is none."""
    for argument in arguments:
        name = argument.partition("=")[0]
        cut_short = name.startswith("--") and any(flag.startswith(name) for flag in _FLAGS)
        if argument.startswith("-") and name not in _FLAGS and not cut_short:
            return f"{argument} cannot be used: options are written name=value, without dashes; --help lists them"
    return None


def unreadable(override: str, message: str) -> str:
    """Return that the words of an override are not name=value, from Hydra's message about them."""
    if "=" not in override:
        return f"{override} cannot be used: write name=value"
    reasons = [line for line in message.splitlines() if not line.startswith(("See ", "Error parsing override"))]
    remedy = "put what has = , : ( ) [ ] or { } in it into quotes within quotes, as in 'pool.path=\"a=b\"'"
    return f"{override} cannot be read ({' '.join(reasons)}): {remedy}"
