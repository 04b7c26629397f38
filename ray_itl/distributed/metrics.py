"""Counters and gauges of a selection for Ray's metrics page (Prometheus), tagged by run."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from ray_itl.core.result import GreedyStats, Progress
from ray_itl.distributed.relay import PassTime

_TAGS = ("run",)


class SelectionMetrics:
    """Reports selections, one after another; needs a connection to Ray, and shows on the page some ten seconds late.

    Hand `on_progress` to GreedySelector and `on_pass` to RayPool. Ray shows a counter `x` as `ray_x_total`.
    """

    def __init__(self, run: str) -> None:
        """Tag everything with the name of the run."""
        self._tags = {"run": run}
        self._picks = Counter("itl_picks", "Rows picked", _TAGS)
        self._passes = Counter("itl_passes", "Passes over the pool", _TAGS)
        self._rows = Counter("itl_rows_scanned", "Rows read by all shards", _TAGS)
        self._speed = Gauge("itl_rows_per_second", "Rows a second of the last pass, over all shards", _TAGS)
        self._slowest = Gauge("itl_slowest_shard_seconds", "Time of the slowest shard in the last pass", _TAGS)
        self._counted_passes = 0
        self._stats: GreedyStats | None = None

    def on_progress(self, progress: Progress) -> None:
        """Count what was picked in the block just accepted."""
        if progress.stats is not self._stats:  # another selection, from the same shards
            self._stats, self._counted_passes = progress.stats, 0
        self._picks.inc(len(progress.new), self._tags)
        passes = progress.stats.passes - self._counted_passes
        if passes:  # none when the driver holds the whole pool, and Ray refuses to add 0
            self._passes.inc(passes, self._tags)
        self._counted_passes = progress.stats.passes

    def on_pass(self, times: list[PassTime]) -> None:
        """Count the rows of one pass and show its speed."""
        rows, slowest = sum(time.num_rows for time in times), max(time.seconds for time in times)
        self._rows.inc(rows, self._tags)
        self._slowest.set(slowest, self._tags)
        self._speed.set(rows / max(slowest, 1e-9), self._tags)
