"""How the commands of this package are called where this process runs: for hints that can be pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

_INSTALLED = "ray-itl"


def command_line(job: str, *options: str) -> str:
    """Return the command that runs a job with some options, quoted for a shell.

    It is `python jobs/NAME.py`, `python -m ray_itl NAME` or `ray-itl NAME`: the one of them that runs this process,
    with a path where the shell would find another program of that name or none. From Python it is `ray-itl NAME`.
    """
    return shlex.join([*_command(job), *options])


def _command(job: str) -> list[str]:
    program = Path(sys.argv[0])
    sibling = program.absolute().parent / f"{job}.py"
    if sibling.parent.name == "jobs" and program.suffix == ".py" and sibling.is_file():
        return [_python(), str(_short(sibling))]
    if program.parts[-2:] == ("ray_itl", "__main__.py"):
        return [_python(), "-m", "ray_itl", job]
    if program.name == _INSTALLED and not _on_path(_INSTALLED, program):
        return [str(program), job]
    return [_INSTALLED, job]


def _python() -> str:
    return "python" if _on_path("python", Path(sys.executable)) else sys.executable


def _on_path(name: str, program: Path) -> bool:
    """Whether a shell that is asked for `name` looks where `program` is; no links are followed: venvs are links."""
    found = shutil.which(name)
    return found is not None and Path(found).absolute().parent == program.absolute().parent


def _short(path: Path) -> Path:
    """Return a path relative to the working directory, where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
