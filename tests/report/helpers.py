"""Report data of any size, for the tests."""

from typing import Any

import numpy as np

from ray_itl.report.selection_data import ComparisonRow, Mix, PickReason, ReportData, TargetsLeft, Use


def make_report_data(n: int = 5, **changes: Any) -> ReportData:
    """A report of n picks with everything on it; `changes` replace fields."""
    rng = np.random.default_rng(n)
    gains = 2.0 / np.arange(1, n + 1)
    fields: dict[str, Any] = {
        "title": "a selection",
        "acquisition": "ITL",
        "num_pool": 1_000_000,
        "num_targets": 30,
        "num_asked": n,
        "seconds": 93.2,
        "num_passes": 7,
        "gains": gains,
        "gain_unit": "nats",
        "remaining_uncertainty": np.concatenate([[1.0], np.exp(-np.cumsum(gains) / 5)]),
        "map_pool": rng.normal(size=(500, 2)),
        "map_targets": rng.normal(size=(30, 2)),
        "map_picks": rng.normal(size=(n, 2)),
        "map_explained": 0.5,
        "ids": [f"row-{k}" for k in range(n)],
        "files": [f"/pool/part-{k % 7}.parquet" for k in range(n)],
        "rows": np.arange(n),
        "nearest_ids": [f"target-{k % 30}" for k in range(n)],
        "nearest_cosines": np.full(n, 0.5),
        "columns": {"label": [k % 10 for k in range(n)]},
        "facts": {"Noise variance": 0.01},
        "stage_seconds": {"read": 1.0, "select": 2.0},
        "comparison": [ComparisonRow("ITL", 0.25, 4, 0.8), ComparisonRow("random", 0.5, 1, 0.2)],
        "comparison_caption": "Picks of the targets' classes.",
        "targets_left": TargetsLeft([f"target-{k}" for k in range(30)], rng.uniform(size=30)),
        "mixes": [Mix("source", ["web", "books"], [0.2, 0.8], [0.7, 0.3], 500)],
        "uses": [Use("budget", 81_234, most=100_000, unit="tokens"), Use("language=de", 3, least=5)],
        "reasons": [
            PickReason(
                [("target-1", 0.91), ("target-2", 0.5)],
                [("target-3", 0.45)],
                None if k == 0 else (f"row-{k - 1}", 0.7),
                (f"other-{k}", 0.0025),
            )
            for k in range(n)
        ],
    }
    return ReportData(**(fields | changes))
