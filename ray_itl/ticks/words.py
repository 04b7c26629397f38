"""The few lines at the end of a tick that say what the new data was worth."""

from __future__ import annotations

from ray_itl.report.words import plural
from ray_itl.ticks.record import TickRecord
from ray_itl.ticks.tick import Tick


def summarise_tick(tick: Tick) -> str:
    """Return the summary of a tick, published by this call or before."""
    record = tick.record
    lines = [""] if tick.is_new else ["", f"tick {record.tick} was published already: nothing was done"]
    lines += [
        f"tick {record.tick}: {plural(record.new_files, 'new file')} with {plural(record.new_rows, 'row')}; "
        f"{_worth(record)}",
        f"{record.uncertainty_left:.1%} of the targets' uncertainty left ({record.uncertainty_before:.1%} before); "
        f"{record.cumulative_picks:,} picks in all ticks",
        f"results: {tick.location}/{record.path}",
        f"history: {tick.location}/ticks.parquet and ticks.html",
    ]
    return "\n".join(lines)


def _worth(record: TickRecord) -> str:
    if not record.picks:
        return f"nothing worth adding: {_why(record)}"
    return (
        f"picked {record.picks:,} of {record.candidate_rows:,}, worth {record.gain:.4g} {record.unit}: {_why(record)}"
    )


def _why(record: TickRecord) -> str:
    if record.stop == "min_gain":
        return f"the next pick would add {record.next_gain:.4g} {record.unit}, less than selection.min_gain"
    words = {"n": "as many as asked for", "no_rows_left": "no rows are left", "nothing_new": "no new rows"}
    return words[record.stop]
