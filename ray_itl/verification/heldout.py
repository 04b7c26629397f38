"""Whether the rows that a run excluded as nearly equal to held-out ones are that, and whether it missed any."""

from __future__ import annotations

import numpy as np

from ray_itl.core.near_rows import near_among
from ray_itl.curation.heldout import HELDOUT_FILE, Contamination, near_by_features, near_text_at
from ray_itl.shards.loading import rows_as_stored
from ray_itl.sources.schema import which_row
from ray_itl.verification.reopen import ReopenedRun

_MAX_NAMED = 20
_TOLERANCE = 1e-9


def wrongly_held_out(finished: ReopenedRun, compared: np.ndarray) -> list[str]:
    """Return a complaint for rows that heldout.parquet lists wrongly, and for rows compared that it misses.

    Args:
        finished: The run.
        compared: Positions of rows, ascending, none of which is excluded otherwise.
    """
    problem = finished.problem
    if problem.heldout is None:
        return []
    listed = problem.contamination
    told = finished.run.read_metrics().get("heldout_rows", 0)
    found = [] if told == len(listed) else [f"{HELDOUT_FILE} lists {len(listed)} rows, metrics.json {told}"]
    near = _near(finished, np.union1d(listed.positions, compared))
    wrong = np.setdiff1d(listed.positions, near.positions)
    missed = np.setdiff1d(near.positions, listed.positions)
    both, here, there = np.intersect1d(listed.positions, near.positions, return_indices=True)
    off = np.abs(listed.similarities[here] - near.similarities[there]) > _TOLERANCE
    differs = off | (listed.reasons[here] != near.reasons[there])
    for positions, what in (
        (wrong, "lists {}, which is not nearly equal to a held-out row"),
        (missed, "misses {}, which is nearly equal to a held-out row"),
        (both[differs], "says of {} what is not so"),
    ):
        files, rows = finished.source.locate(positions[:_MAX_NAMED])
        places = zip(files, rows.tolist(), strict=True)
        found += [f"{HELDOUT_FILE} {what.format(which_row(file, row))}" for file, row in places]
    return found


def _near(finished: ReopenedRun, positions: np.ndarray) -> Contamination:
    """Return those of some rows that are nearly equal to held-out ones, found anew."""
    problem, source = finished.problem, finished.source
    if problem.heldout is None or not len(positions):
        return Contamination.none()
    found, query = near_text_at(source, problem.heldout, positions), problem.heldout.query
    if query is None:
        return found
    rows = rows_as_stored(problem.feature_map, source.embeddings(positions), finished.options.pool.dtype)
    near = near_by_features(near_among(rows, query))
    return found.joined(Contamination(positions[near.positions], near.nearest, near.similarities, near.reasons))
