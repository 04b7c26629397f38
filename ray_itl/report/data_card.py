"""The data card of a selection: README.md of a data set, in Markdown with the head that Hugging Face reads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_itl.text import number, percent, plural

HIDDEN = "..."
"""Stands in a card for a path that it does not tell."""
_PATHS = (".path", ".exclude", ".include", ".prior_covariance")
_GROUPS = ("pool", "target", "known", "avoid", "heldout", "acquisition", "selection", "evaluation")
"""Options that say what was picked; the others, of machines and folders, are nobody's concern."""
_RULES = {
    "itl": "information-based transductive learning (ITL): each row is worth the information that its label carries "
    "about the targets, given the rows before it",
    "vtl": "variance-based transductive learning (VTL): each row is worth the variance at the targets that its label "
    "takes away, given the rows before it",
    "uncertainty": "uncertainty sampling: each row is the one least known, given the rows before it",
    "nearest": "the rows of the largest cosine to a target, each target in turn",
    "cosine": "the rows of the largest mean cosine to the targets, or to those of one task",
    "random": "random rows",
}


@dataclass(frozen=True)
class CardData:
    """What a card tells."""

    title: str
    license: str | None
    """A licence by its identifier at Hugging Face; None: the card says that none is stated."""
    columns: Sequence[tuple[str, str]]
    """Names and types."""
    metrics: Mapping[str, Any]
    """metrics.json of the run."""
    gains: Sequence[float]
    remaining_uncertainty: Sequence[float]
    """After 0..n picks."""
    options: Mapping[str, Any]
    """Those that are not at their default."""
    fingerprints: Mapping[str, str]
    versions: Mapping[str, str | None]
    show_paths: bool = False


def data_card(data: CardData) -> str:
    """Return the card."""
    head = [
        "---",
        *([] if data.license is None else [f"license: {json.dumps(data.license)}"]),
        "tags:\n- data-selection\n- ray-itl",
        'configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: "data/*.parquet"',
        "---",
    ]
    licence = (
        "Not stated. What the licence of the pool's rows allows holds for these, too."
        if data.license is None
        else f"`{_cell(data.license)}`"
    )
    parts = [
        "\n".join(head),
        f"# {_cell(data.title)}",
        _summary(data),
        "## Columns",
        _table(("column", "type"), [(f"`{_cell(name)}`", f"`{_cell(kind)}`") for name, kind in data.columns]),
        "## How the rows were picked",
        _table(("what", "value"), _facts(data)),
        "## What they are worth",
        f"Of {plural(len(data.gains), 'pick')}, best first. Uncertainty left is the share of the targets' variance "
        "that the picks so far leave, under the model they were selected by.",
        _table(("picks", f"gain so far ({data.metrics['unit']})", "uncertainty left"), _curve(data)),
        "## The same again",
        f"```bash\n{_command(data)}\n```",
        *_fingerprints(data),
        f"Made with {', '.join(f'{name} {value}' for name, value in data.versions.items() if value)}.",
        "## Licence",
        licence,
    ]
    return "\n\n".join(parts) + "\n"


def _summary(data: CardData) -> str:
    metrics = data.metrics
    return (
        f"{plural(len(data.gains), 'row')} of a pool of {metrics['num_rows']:,}, picked for "
        f"{plural(metrics['num_targets'], 'example')} of a task by ray_itl: exact greedy selection, one row "
        "after another."
    )


def _facts(data: CardData) -> list[tuple[str, str]]:
    metrics, options = data.metrics, data.options
    rule = str(options.get("acquisition.name", "itl"))
    noise = metrics.get("noise_variance")
    facts = {
        "rule": f"`{_cell(rule)}`, {_RULES[rule]}" if rule in _RULES else f"`{_cell(rule)}`",
        "noise variance": "" if noise is None else number(noise),
        "dimensions": f"{metrics['dim']:,}",
        "asked for": f"{metrics['num_asked']:,}",
        "ended": "" if metrics.get("stop", "n") == "n" else f"`{_cell(metrics['stop'])}`",
        "rows that cannot be used": f"{metrics['skipped_rows']:,}" if metrics.get("skipped_rows") else "",
        "held out": _held_out(metrics),
        **{f"task {_cell(task['name'])}": f"{task['targets']:,} targets" for task in metrics.get("tasks", [])},
        **{f"limit {_cell(used['name'])}": number(used["used"]) for used in metrics.get("limits", [])},
        "total gain": f"{number(metrics['total_gain'])} {metrics['unit']}",
    }
    return [(name, value) for name, value in facts.items() if value]


def _held_out(metrics: Mapping[str, Any]) -> str:
    if "heldout_rows" not in metrics:
        return ""
    return f"{metrics['num_heldout']:,} rows; {metrics['heldout_rows']:,} of the pool nearly equal to one were excluded"


def _curve(data: CardData) -> list[tuple[str, str, str]]:
    n = len(data.gains)
    marks = sorted({k * 10**power for power in range(len(str(n))) for k in (1, 2, 5) if k * 10**power < n})
    marks += [n] if n else []
    sums, total = [0.0], 0.0
    for gain in data.gains:
        total += gain
        sums.append(total)
    return [(f"{k:,}", number(sums[k]), percent(data.remaining_uncertainty[k])) for k in marks]


def _command(data: CardData) -> str:
    """Return the command that picks the same rows, with paths only where they are to be shown."""
    shown = {name: value for name, value in data.options.items() if name.partition(".")[0] in _GROUPS}
    shown = {"pool.path": HIDDEN, "target.path": HIDDEN, **shown}
    words = []
    for name, value in shown.items():
        is_path = name.endswith(_PATHS)
        hidden = is_path and not data.show_paths
        words.append(shlex.quote(f"{name}={HIDDEN if hidden else _value(value)}"))
    return "ray-itl curate " + " \\\n  ".join(words)


def _value(value: Any) -> str:
    """Return a value as a command line takes it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _fingerprints(data: CardData) -> list[str]:
    if not data.fingerprints:
        return []
    told = ", ".join(f"{name} `{_cell(value)}`" for name, value in data.fingerprints.items())
    return [f"On the rows of these fingerprints (SHA-256): {told}."]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: Any) -> str:
    """Return a text that stays within its cell, and is no markup there."""
    plain = " ".join(str(text).split())
    return "".join(f"&#{ord(c)};" if c in "|<>&`[]" else c for c in plain)
