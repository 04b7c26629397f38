"""Every option of the check of a finished run."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_itl.observability.settings import log_option
from ray_itl.options.checks import whole
from ray_itl.options.declare import Options, option


@dataclass
class FinishedRun(Options, group="run"):
    """A run to look at."""

    dir: str | None = option(None, "Directory of a finished run.", decides=False)
    log: str = log_option()


@dataclass
class VerifySettings(Options):
    """Everything that a check of a finished run takes."""

    run: FinishedRun = field(default_factory=FinishedRun)
    sample: int = option(
        2000,
        "Pool rows to check every pick against, besides the picks themselves and the rows that came close.",
        whole(1),
    )
    max_steps: int = option(
        200, "Picks to check; of more, this many spread evenly, the first and last included.", whole(1)
    )
    seed: int = option(0, "Draws the sample.", whole(0).said("give a whole number >= 0"))
