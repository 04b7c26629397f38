"""What a tick says at its end: what the new data was worth, and where its results are."""

from __future__ import annotations

from dataclasses import asdict

from ray_itl.report.words import plural
from ray_itl.summary import why_stopped
from ray_itl.telling.event import Ending
from ray_itl.ticks.record import TickRecord
from ray_itl.ticks.tick import Tick


def summarise_tick(tick: Tick) -> Ending:
    """Return the ending of a tick, published by this call or before."""
    record = tick.record
    already = "" if tick.is_new else " was published already, nothing was done"
    headline = (
        f"tick {record.tick}{already}: {plural(record.new_files, 'new file')} with {plural(record.new_rows, 'row')}; "
        f"{_worth(record)}"
    )
    paths = {"results": f"{tick.location}/{record.path}", "history": f"{tick.location}/ticks.parquet"}
    lines = [
        f"{record.uncertainty_left:.1%} of the targets' uncertainty left ({record.uncertainty_before:.1%} before); "
        f"{record.cumulative_picks:,} picks in all ticks",
        f"results: {paths['results']}",
        f"history: {paths['history']} and ticks.html",
    ]
    return Ending(headline, "\n".join(lines), {**asdict(record), "is_new": tick.is_new}, paths)


def _worth(record: TickRecord) -> str:
    why = why_stopped(record.stop, record.next_gain, record.unit)
    if not record.picks:
        return f"nothing worth adding: {why}"
    return f"picked {record.picks:,} of {record.candidate_rows:,}, worth {record.gain:.4g} {record.unit}: {why}"
