"""What an active fine-tuning hands back, and its learning curve as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ray_itl.report.notebook import table_html
from ray_itl.rounds.label_files import GivenLabels

TuningState = Literal["finished", "awaiting_labels"]
_ROUNDS_SHOWN = 10


@dataclass(frozen=True)
class FineTuning:
    """A finished active fine-tuning, or one that waits for people's labels.

    curves holds one row a round (0 is before any training): round, num_labelled, num_on_task, num_new_on_task, the
    scores on the held-out rows, seconds of each stage, and how far the embedding drifted.
    """

    state: TuningState
    curves: pa.Table
    path: Path
    checkpoint: Path | None
    """The last round's weights; None before the first training."""
    waiting_for: Path | None = None
    """The labels.parquet that is to be written, or labels.csv beside it, while the state is awaiting_labels."""
    labels: GivenLabels | None = None
    """Those that are there meanwhile, and which are missing."""

    def _repr_html_(self) -> str:
        """Show the last rounds of the learning curve in a notebook."""
        figures = [name for name in self.curves.column_names if not name.startswith(("seconds.", "drift."))]
        last = self.curves.select(figures).slice(max(len(self.curves) - _ROUNDS_SHOWN, 0))
        return table_html(repr(self), last, "round")

    def __repr__(self) -> str:
        return f"FineTuning({self.state}, {len(self.curves) - 1} rounds, path={str(self.path)!r})"


def curves_table(records: Sequence[dict[str, Any]]) -> pa.Table:
    """Return rounds' records as a table; nested figures become columns with a dot, lists and texts are left out."""
    flat = [dict(_flatten(record)) for record in records]
    names = list(dict.fromkeys(name for record in flat for name in record))
    return pa.table({name: pa.array([record.get(name) for record in flat]) for name in names})


def _flatten(record: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            found.extend(_flatten(value, f"{prefix}{name}."))
        elif isinstance(value, int | float) or value is None:
            found.append((prefix + name, value))
    return found
