"""Every option of a curation run, as plain typed dataclasses that check themselves.

They know nothing of Hydra: `config.py` composes them from YAML and the command line, `api.select` from arguments.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from ray_itl.data_settings import AvoidSettings, KnownSettings, PoolSettings, TargetSettings
from ray_itl.errors import ConfigError
from ray_itl.io.sizes import parse_size
from ray_itl.limit_settings import LimitSettings
from ray_itl.option_checks import is_number, is_positive, is_whole, require
from ray_itl.telling.choice import check_log
from ray_itl.tracking.settings import TrackingSettings

SEQUENTIAL_RULES = ("itl", "vtl", "uncertainty")
BASELINE_RULES = ("nearest", "cosine", "random")
_TICK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STATE_WORDS = {
    "candidates": ("new", "all"),
    "on_changed": ("refuse", "as_new", "as_seen"),
    "on_new_target": ("refuse", "accept"),
}


@dataclass
class AcquisitionSettings:
    """The rule that scores a row."""

    name: str = "itl"
    """itl, vtl, uncertainty; or a baseline: nearest, cosine, random."""
    noise_variance: float = 1.0
    """rho^2, in units of the squared feature norm: how much of an observation is noise."""
    target_noise_variance: float | None = None
    """Noise on the targets (ITL). null: the same (eq. 44); 0: none (eq. 43)."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        names = SEQUENTIAL_RULES + BASELINE_RULES
        require(self.name in names, "acquisition.name", self.name, f"use one of {', '.join(names)}")
        s2 = self.noise_variance
        require(is_positive(s2), "acquisition.noise_variance", s2, "give a positive number")
        s2a = self.target_noise_variance
        usable = s2a is None or (is_number(s2a) and s2a >= 0)
        require(usable, "acquisition.target_noise_variance", s2a, "give a number >= 0, or null")


@dataclass
class SelectionSettings(LimitSettings):
    """How much to pick, and within which limits."""

    n: int = 100
    replacement: bool = False
    """Whether a row may be picked more than once."""
    seed: int = 0
    """Fixes random features and the random baseline; nothing else in a selection is random."""
    min_gain: float = 0.0
    """Stop before the first pick whose gain per unit of cost (every row costs 1) is less; 0 never stops."""
    explain: bool = False
    """Add columns that say why each row was picked. Takes one more pass over the pool."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        require(is_whole(self.n, 1), "selection.n", self.n, "give a whole number of at least 1")
        require(isinstance(self.replacement, bool), "selection.replacement", self.replacement, "give true or false")
        seed = isinstance(self.seed, int) and 0 <= self.seed < 2**63
        require(seed, "selection.seed", self.seed, "give a whole number from 0 to 2^63 - 1")
        least = is_number(self.min_gain) and self.min_gain >= 0
        require(least, "selection.min_gain", self.min_gain, "give a number >= 0")
        require(isinstance(self.explain, bool), "selection.explain", self.explain, "give true or false")
        self.check_limits()
        together = not (self.replacement and self.min_distance is not None)
        require(together, "selection.min_distance", self.min_distance, "leave it out with selection.replacement=true")


@dataclass
class ClusterSettings:
    """Where the shards run."""

    num_shards: Any = "auto"
    """A number of Ray actors; auto: by the cluster's CPUs or GPUs and the pool's size; 0: in this process."""
    address: str | None = None
    """A Ray cluster to connect to. null: the one this job runs on, else a Ray of its own on this machine."""
    cpus_per_shard: float | None = None
    """CPUs a shard reserves; a fraction leaves room for Ray Data and Train. null: by the cluster."""
    gpus_per_shard: float = 0.0
    """GPUs a shard reserves; above 0, features live on the GPU."""
    restart_deadline_s: float = 300.0
    """How long a lost shard may take to come back before the run gives up (and can be resumed)."""
    memory_per_shard: str | None = None
    """Memory that the process of a shard may use, like 2GiB. null: what the machines have."""
    cache_dir: str | None = None
    """Folder on each shard's machine for features on disk. null: $RAY_ITL_CACHE/shards or ~/.cache/ray_itl/shards."""
    cache_limit: str | None = None
    """Size that all that is kept there may have, like 500GiB. null: a tenth of the disk stays free."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if isinstance(self.num_shards, str) and self.num_shards.isdigit():
            self.num_shards = int(self.num_shards)
        shards = self.num_shards
        require(
            shards == "auto" or is_whole(shards, 0), "cluster.num_shards", shards, "give auto or a whole number >= 0"
        )
        for option in ("cpus_per_shard", "gpus_per_shard", "restart_deadline_s"):
            value = getattr(self, option)
            unset = value is None and option == "cpus_per_shard"
            usable = unset or (isinstance(value, int | float) and 0 <= value < math.inf)
            require(usable, f"cluster.{option}", value, "give a number >= 0")
        for option in ("memory_per_shard", "cache_limit"):
            parse_size(f"cluster.{option}", getattr(self, option))
        require(self.restart_deadline_s > 0, "cluster.restart_deadline_s", self.restart_deadline_s, "give seconds > 0")


@dataclass
class EvaluationSettings:
    """Count how many picks belong to the target task, where a column of the pool tells."""

    class_column: str | None = None
    classes: list[Any] = field(default_factory=list)
    """Values of class_column that belong to the task; picks are counted beside nearest's and random's."""

    def __post_init__(self) -> None:
        """Raise ConfigError where only one of the two is set."""
        if (self.class_column is None) != (not self.classes):
            missing = "evaluation.class_column" if self.class_column is None else "evaluation.classes"
            raise ConfigError(f"{missing} is not set: give both class_column and classes, or neither")


@dataclass
class RunSettings:
    """Where results go."""

    dir: str | None = None
    """Run directory. The same command on the same directory resumes an unfinished run. null: runs/<time>."""
    report: bool = True
    """Write report.html (needs the extra `report`)."""
    map_sample: int = 2000
    """Pool rows drawn in the report's map."""
    log: str = "auto"
    """auto: a live line on a terminal, else lines; lines; quiet: errors and the last line; json: objects on stdout."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        check_log(self.log)
        drawn = isinstance(self.map_sample, int) and self.map_sample > 0
        require(drawn, "run.map_sample", self.map_sample, "give a whole number of at least 1")


@dataclass
class StateSettings:
    """Runs on a schedule: each is a tick that builds on what earlier ticks left in the state directory."""

    dir: str | None = None
    """State directory: a local path or any filesystem URI. null: one run that knows of no other."""
    tick: str | None = None
    """Name of this tick; one of a name is done once. null: today's date in UTC; next: the next number."""
    candidates: str = "new"
    """new: only files that no earlier tick saw; all: the whole pool. Rows picked before are never picked again."""
    on_changed: str = "refuse"
    """When files seen earlier changed or vanished: refuse; as_new or as_seen (how a changed file counts)."""
    on_new_target: str = "refuse"
    """When the targets differ from those of the last tick: refuse, or accept."""
    lease_s: float = 60.0
    """Seconds without a sign of life after which a tick counts as dead and another may begin."""
    wait_s: float = 0.0
    """Seconds to wait while another tick is at work, before exit code 75."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        plain = self.tick is None or (isinstance(self.tick, str) and _TICK_NAME.fullmatch(self.tick) is not None)
        require(
            plain, "state.tick", self.tick, "use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
        )
        for option, words in _STATE_WORDS.items():
            require(
                getattr(self, option) in words, f"state.{option}", getattr(self, option), f"use {' or '.join(words)}"
            )
        lease, wait = self.lease_s, self.wait_s
        require(is_positive(lease), "state.lease_s", lease, "give seconds > 0")
        require(is_number(wait) and wait >= 0, "state.wait_s", wait, "give seconds >= 0")


@dataclass
class CurationSettings:
    """Everything that `jobs/curate.py` takes."""

    pool: PoolSettings = field(default_factory=PoolSettings)
    target: TargetSettings = field(default_factory=TargetSettings)
    known: KnownSettings = field(default_factory=KnownSettings)
    avoid: AvoidSettings = field(default_factory=AvoidSettings)
    acquisition: AcquisitionSettings = field(default_factory=AcquisitionSettings)
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    run: RunSettings = field(default_factory=RunSettings)
    state: StateSettings = field(default_factory=StateSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    plan: bool = False
    """Say what the run would take, and stop."""

    def __post_init__(self) -> None:
        """Raise ConfigError for options that contradict each other."""
        if (self.pool.path is None) != (self.target.path is None):
            missing = "pool.path" if self.pool.path is None else "target.path"
            raise ConfigError(f"{missing} is not set: give both pool.path and target.path, or neither for the demo")
        for option in ("replacement", "min_gain", *self.selection.limiting):
            value = getattr(self.selection, option)
            if self.acquisition.name in BASELINE_RULES and value:
                raise ConfigError(
                    f"selection.{option}={str(value).lower()} has no meaning for "
                    f"acquisition.name={self.acquisition.name}: leave it out, or use one of "
                    f"{', '.join(SEQUENTIAL_RULES)}"
                )
        for option, value in (("avoid.path", self.avoid.path), ("target.task_column", self.target.task_column)):
            if value is not None and self.acquisition.name not in ("itl", "vtl"):
                rule = self.acquisition.name
                raise ConfigError(f"{option} has no meaning for acquisition.name={rule}: use itl or vtl")
        if self.state.dir is not None and self.selection.include is not None:
            raise ConfigError(
                "selection.include cannot go with state.dir: ticks know their own picks; other rows go to known.path"
            )
        if self.state.dir is not None and self.selection.replacement:
            raise ConfigError(
                "selection.replacement=true cannot go with state.dir, where no tick picks a row "
                "again: leave one of them out"
            )


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
    """Everything that `jobs/verify.py` takes."""

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
