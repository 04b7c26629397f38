"""Options of runs on a schedule, each of which builds on those before."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ray_itl.options.checks import Check, either, number_at_least, positive
from ray_itl.options.declare import Options, option

_TICK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass
class StateSettings(Options, group="state"):
    """On a schedule, each run is a tick that builds on what earlier ticks left in the state directory.

    It looks for new pool files, takes earlier picks as known, and picks up to selection.n further rows.
    """

    dir: str | None = option(
        None,
        "State directory: a local path or any filesystem URI. null: one run that knows of no other.",
        decides=False,
    )
    tick: str | None = option(
        None,
        "Name of this tick; one of a name is done once. null: today's date in UTC; next: the next number, for several "
        "ticks a day or by hand.",
        Check(
            "use up to 64 letters, digits, '.', '_' and '-', a letter or digit first",
            lambda value: isinstance(value, str) and _TICK_NAME.fullmatch(value) is not None,
        ),
        decides=False,
    )
    candidates: str = option(
        "new",
        "new: only files that no earlier tick saw; all: the whole pool. Rows picked before are never picked again.",
        either("new", "all"),
        decides=False,  # the rows that are candidates, and those that are not, do
    )
    on_changed: str = option(
        "refuse",
        "When files seen earlier changed or vanished: refuse; as_new: a changed file's rows are candidates again, but "
        "for those picked; as_seen: they count as seen. Earlier picks stay known.",
        either("refuse", "as_new", "as_seen"),
        decides=False,  # likewise
    )
    on_new_target: str = option(
        "refuse",
        "When the targets differ from those of the last tick: refuse, or accept (earlier picks stay known).",
        either("refuse", "accept"),
        decides=False,  # the targets do
    )
    lease_s: float = option(
        60.0,
        "Seconds without a sign of life after which a tick counts as dead and another may begin.",
        positive.said("give seconds > 0"),
        decides=False,
    )
    wait_s: float = option(
        0.0,
        "Seconds to wait while another tick is at work, before exit code 75.",
        number_at_least(0).said("give seconds >= 0"),
        decides=False,
    )
