"""README.md, CONTRIBUTING.md and docs/*.md taken apart: their code blocks, and the jobs and options that they name."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
}
KINDS = {"bash", "python", "cron", "text"}
OPTION = re.compile(r"\+?[a-z_]+(\.[a-z_]+)*=")
_NEEDS = r"<!-- needs: (\w+) -->\n"
_BLOCK = re.compile(rf"^(?:{_NEEDS})?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_GROUPS = (
    "pool|target|known|avoid|heldout|encoder|acquisition|selection|cluster|evaluation|run|state|tracking|model|rounds"
    "|data|embedding|output|labels|trainer|training|candidates|sweep|task"
)
_NAMED = re.compile(rf"(?<![\w./-])(?:{_GROUPS})\.[a-z_]+(?![\w./(-])")
_FILES = (".parquet", ".jsonl", ".csv", ".json", ".yaml", ".html", ".safetensors", ".py")
_FILE = re.compile(r"# (\w+\.py)\n")


@dataclass(frozen=True)
class Block:
    """One fenced block of a guide."""

    kind: str
    """The word after the fence."""
    text: str
    needs: str | None
    """What a laptop does not have, or not in a minute: named in a comment right above the fence."""

    @property
    def file(self) -> str | None:
        """The file that a Python block is to be saved as, named in its first line."""
        named = _FILE.match(self.text) if self.kind == "python" else None
        return named[1] if named else None


def blocks_of(guide: str) -> list[Block]:
    """Every fenced block of a guide, in order."""
    return [Block(kind, body, needs or None) for needs, kind, body in _BLOCK.findall(guide)]


def num_fences_and_needs(guide: str) -> tuple[int, int]:
    """How many fences and comments of needs there are, wherever they stand."""
    return len(re.findall(r"^ *(?:```|~~~)", guide, re.MULTILINE)), len(re.findall(r"<!-- needs", guide))


def commands_of(text: str) -> list[list[str]]:
    """The words of every line of a shell block, with what the shell fills in replaced by x."""
    filled = re.sub(r"\$\([^)]*\)|\$\w+", "x", text.replace("\\\n", " "))
    return [words for line in filled.splitlines() if (words := shlex.split(line, comments=True))]


def job_in(words: list[str]) -> tuple[str, list[str]] | None:
    """The job that a command runs, and the options that follow it up to the end of the command."""
    for place, word in enumerate(words):
        script = word.startswith("jobs/") and word.endswith(".py") and word.count("/") == 1
        if script or (word in ("ray-itl", "ray_itl") and words[place + 1 :] and words[place + 1].isalpha()):
            end = next((k for k, w in enumerate(words) if k > place and w in ("||", "&&", "|", ";", ">")), len(words))
            options = [w for w in words[place + 1 : end] if OPTION.match(w)]
            return word.removeprefix("jobs/").removesuffix(".py") if script else words[place + 1], options
    return None


def jobs_named(guide: str) -> list[tuple[str, list[str]]]:
    """Every command of a job: those of blocks, and those within a line of text."""
    found = [job_in(words) for b in blocks_of(guide) if b.kind in ("bash", "cron") for words in commands_of(b.text)]
    prose = _BLOCK.sub("", guide)
    found += [
        job_in(words) for code in re.findall(r"`([^`]+)`", prose) for words in commands_of(code.replace("\n", " "))
    ]
    return [each for each in found if each]


def options_named(guide: str) -> set[str]:
    """Names of options that stand in backticks outside of blocks and of commands."""
    found = set()
    for code in re.findall(r"`([^`]+)`", _BLOCK.sub("", guide)):
        if not job_in(commands_of(code.replace("\n", " "))[0] if code.count("'") % 2 == 0 else []):
            found.update(_NAMED.findall(code))
    return {name for name in found if not name.endswith(_FILES)}


def files_named(guide: str) -> set[str]:
    """Files of this project that a guide names, within blocks and without."""
    return set(re.findall(r"(?<![\w/.])(?:jobs|configs|docs|ray_itl|tests)/[\w./-]*\w", guide))


def modules_named(guide: str) -> set[str]:
    """Files and folders of the code, each a word in backticks: `core/greedy.py`, `core/`."""
    return set(re.findall(r"`((?:[\w.]+/)*\w+\.py|(?:\w+/)+)`", guide))


def words_named(guide: str) -> set[str]:
    """Classes and constants, each a word in backticks outside of blocks: `Pool`, `DENSE_GAINS`."""
    return set(re.findall(r"`([A-Z]\w+)`", _BLOCK.sub("", guide)))


def journeys_of(guide: str) -> list[tuple[int, set[str]]]:
    """For every paragraph that begins with how many files it passes: that number, and the files that it names."""
    found = re.findall(r"^\*\*[^*]*: (\d+) files\.\*\*(.*?)(?:\n\n|\Z)", guide, re.MULTILINE | re.DOTALL)
    return [(int(told), modules_named(text)) for told, text in found]


def rows_of(guide: str, first_column: str) -> list[list[str]]:
    """The rows of the table whose first column has a heading that begins so, cell by cell."""
    (table,) = re.findall(rf"^\| {first_column}.*\n\|[-|]+\n((?:\|.*\n)*)", guide, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def make_targets_named(guide: str) -> set[str]:
    """Targets of the Makefile that a guide names."""
    return set(re.findall(r"(?:^|`)make ([a-z-]+)", guide, re.MULTILINE))


def lines_missing(expected: str, output: str) -> list[str]:
    """Lines of a text block that an output does not have, in this order; `...` stands for any lines."""
    rest, missing = output.splitlines(), []
    for line in expected.splitlines():
        if line.strip() in ("...", ""):
            continue
        places = [k for k, said in enumerate(rest) if said.strip() == line.strip()]
        if places:
            rest = rest[places[0] + 1 :]
        else:
            missing.append(line)
    return missing
