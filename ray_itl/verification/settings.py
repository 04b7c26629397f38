"""Options of jobs/verify.py, as plain typed dataclasses that check themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_itl.observability.console import check_log
from ray_itl.options import require


@dataclass
class FinishedRun:
    """A run to look at."""

    dir: str | None = None
    log: str = "auto"
    """How the outcome is told: auto, lines, quiet or json (see RunSettings)."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        check_log(self.log)


@dataclass
class VerifySettings:
    """Everything that `ray-itl verify` takes."""

    run: FinishedRun = field(default_factory=FinishedRun)
    sample: int = 2000
    """Pool rows to check every pick against, besides the picks themselves and the rows that came close."""
    max_steps: int = 200
    """Picks to check; of more, this many spread evenly, the first and last included."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        for option in ("sample", "max_steps"):
            value = getattr(self, option)
            require(isinstance(value, int) and value > 0, option, value, "give a whole number of at least 1")
        require(isinstance(self.seed, int) and self.seed >= 0, "seed", self.seed, "give a whole number >= 0")
