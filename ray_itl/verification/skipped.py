"""Whether the rows that a run passed over as bad are bad."""

from __future__ import annotations

import numpy as np

from ray_itl.shards.loading import STORAGE_DTYPES, rows_as_stored
from ray_itl.sources.bad_rows import SKIPPED_FILE, BadRows
from ray_itl.sources.costs_and_groups import row_costs
from ray_itl.sources.schema import which_row
from ray_itl.verification.reopen import ReopenedRun

_MAX_NAMED = 20


def wrongly_skipped(finished: ReopenedRun) -> list[str]:
    """Return a complaint for rows of skipped.parquet that could have been used, at most 20. Reads those rows."""
    problem, source, bad = finished.problem, finished.source, BadRows()
    skipped = problem.skipped.positions
    told = finished.run.read_metrics().get("skipped_rows", 0)
    found = [] if told == len(skipped) else [f"{SKIPPED_FILE} lists {len(skipped)} rows, metrics.json {told}"]
    if not len(skipped):
        return found
    first, dtype = 0, finished.options.pool.dtype
    for ids, embeddings in source.batches_at(skipped, bad):
        here = skipped[first : first + len(ids)]
        stored = rows_as_stored(problem.feature_map, embeddings, dtype).to(STORAGE_DTYPES[dtype])
        too_large = here[~stored.isfinite().all(dim=1).numpy()]
        for position in too_large.tolist():
            bad.add(position, None, "")
        first += len(ids)
    spec = problem.cost_group_columns
    if spec is not None and spec.cost_column is not None:
        costs = source.take(skipped, [spec.cost_column]).column(0).combine_chunks()
        row_costs(costs, spec.cost_column, skipped, source, (bad, np.zeros(len(skipped), dtype=np.int64)))
    sound = np.setdiff1d(skipped, bad.positions)
    files, rows = source.locate(sound[:_MAX_NAMED])
    places = zip(files, rows.tolist(), strict=True)
    return found + [f"{SKIPPED_FILE} lists {which_row(file, row)}, which could have been used" for file, row in places]
