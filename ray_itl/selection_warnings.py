"""What a report warns of, before anything else."""

from __future__ import annotations

import numpy as np

from ray_itl.limits_report import limit_words
from ray_itl.selection import Selection


def warnings_about(selection: Selection) -> list[str]:
    """Return a sentence for everything about the picks that may not be as meant."""
    warnings = [words for words in limit_words(selection.metrics["limits"]) if "not met" in words]
    if "near_target" in selection.table.column_names:
        near = int(np.count_nonzero(selection.table.column("near_target").to_numpy()))
        if near:
            warnings.append(
                f"{near:,} of {len(selection):,} picks are nearly equal to a target (column near_target): if the "
                "targets are to be tested on, set selection.near_target=exclude."
            )
    gains = selection.gains
    if len(gains) and gains.min() < 0:
        first = int(np.argmax(gains < 0)) + 1
        warnings.append(
            f"Pick {first:,} and {np.count_nonzero(gains < 0) - 1:,} others say more about the rows to avoid than "
            "about the targets: a small selection.min_gain would have ended the run before them."
        )
    elif len(gains) > 1 and gains[-1] < 1e-3 * gains[0]:
        small = int(np.argmax(gains < 1e-3 * gains[0])) + 1
        warnings.append(
            f"From pick {small:,} on, a pick is worth less than a thousandth of the first: fewer rows would do, or a "
            "smaller noise variance would tell them apart."
        )
    if selection.remaining_uncertainty[-1] > 0.99:
        warnings.append(
            "The picks remove less than 1% of the targets' uncertainty: the pool may not cover the task, or the noise "
            "variance is large beside the squared norm of the rows."
        )
    return warnings
