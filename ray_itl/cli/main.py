"""`ray-itl NAME ...`: finds the command and hands over. Nothing else is loaded for it, so --help answers at once."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

COMMANDS = {
    "curate": "pick the rows of a pool that teach most about a target sample; without options, a demo on digits",
    "embed": "turn a pool of texts, images or numbers into one with embeddings",
    "finetune": "fine-tune a model in rounds on the rows that teach it most about a task",
    "verify": "check a finished selection against the dense definition",
    "prepare": "fetch and prepare the data and models of the experiments",
}


def main() -> None:
    """Run the command that the command line names; its options are what follows.

    An unknown command ends it with exit code 2 and one line, as an unknown option does.
    """
    name, *options = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        sys.stdout.write(help_text())
    elif name == "--version":
        sys.stdout.write(f"{_version()}\n")
    elif name in COMMANDS:
        sys.argv[1:] = options
        launch = import_module("ray_itl.cli.config").launch
        launch(import_module(f"ray_itl.cli.{name}").main)
    else:
        near = get_close_matches(name, COMMANDS, n=1)
        guess = f"did you mean {near[0]}?" if near else f"use one of {', '.join(COMMANDS)}"
        sys.stderr.write(f"error: there is no command {_printable(name)}: {guess}\n")
        sys.exit(2)


def help_text() -> str:
    """Return all commands, in one screen."""
    program = "python -m ray_itl" if Path(sys.argv[0]).name == "__main__.py" else "ray-itl"
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())
    return f"""\
Pick the rows of a massive pool that teach a model most about a task, on Ray.

Usage: {program} COMMAND [option=value ...]

{commands}

{program} COMMAND --help lists the options of a command; {program} --version says which version this is.
"""


def _version() -> str:
    try:
        return f"ray_itl {version('ray_itl')}"
    except PackageNotFoundError:
        return "ray_itl, from a folder that is not installed"


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)
