"""Every option of a curation run.

Options that say what rows there are: the pool, the target sample, and what is known or to be avoided.

Options that limit a selection: costs and budget, quotas, likeness, and when it is enough.

Every option of a curation run, as plain typed dataclasses that check themselves.

They know nothing of Hydra: `config.py` composes them from YAML and the command line, `api.select` from arguments.

What every job does around its work: errors become one clear line and an exit code a scheduler can use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray_itl.core.acquisitions import RULES, load_rule
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.observability.console import check_log
from ray_itl.observability.settings import TrackingSettings, absolute_tracking
from ray_itl.options import is_number, is_positive, is_whole, require
from ray_itl.runs.paths import absolute_path, lasting_path, run_directory
from ray_itl.sources.settings import AvoidSettings, KnownSettings, PoolSettings, TargetSettings

NEAR_TARGET_WORDS = ("flag", "exclude", "ignore")


@dataclass(kw_only=True)
class LimitSettings:
    """What limits the picks; part of SelectionSettings."""

    cost_column: str | None = None
    """Column of what a row costs (tokens, bytes, money), > 0. null: every row costs 1."""
    budget: float | None = None
    """What all picks together may cost; never exceeded. Rows that no longer fit are passed over. null: no limit."""
    per_cost: bool = False
    """Whether rows compete by gain per cost rather than by gain."""
    quotas: dict[str, Any] = field(default_factory=dict)
    """{column: {value: {min: .., max: ..}}}: picks of a value, as a number or as a share of n below 1; '*' stands for
    every value that is not named."""
    min_distance: float | None = None
    """Rows nearer than this (1 - cosine of the features) to an earlier pick or a known row are not picked."""
    near_target: str = "flag"
    """What to do with rows nearly equal to a target: flag them in the result, exclude them, or ignore it."""
    target_distance: float = 0.001
    """How near (1 - cosine of the features) is nearly equal."""
    share: float | None = None
    """Stop once this share of what the whole pool could teach about the targets is learnt. null: never."""
    exclude: str | None = None
    """Parquet of ids (column pool.id_column) that may not be picked."""
    include: str | None = None
    """Parquet of ids of pool rows that are picked already: the posterior is conditioned on them first."""

    def check_limits(self) -> None:
        """Raise ConfigError naming the option."""
        require(
            self.budget is None or is_positive(self.budget), "selection.budget", self.budget, "give a positive number"
        )
        require(isinstance(self.per_cost, bool), "selection.per_cost", self.per_cost, "give true or false")
        priced = not self.per_cost or self.cost_column is not None
        require(priced, "selection.per_cost", self.per_cost, "set selection.cost_column too")
        for option, most in (("min_distance", 2.0), ("target_distance", 2.0), ("share", 1.0)):
            value = getattr(self, option)
            usable = value is None or (is_positive(value) and value <= most)
            require(usable, f"selection.{option}", value, f"give a number above 0, at most {most:g}")
        words = ", ".join(NEAR_TARGET_WORDS)
        require(self.near_target in NEAR_TARGET_WORDS, "selection.near_target", self.near_target, f"use one of {words}")
        require(isinstance(self.quotas, Mapping), "selection.quotas", self.quotas, _QUOTA_FORM)
        for column, values in self.quotas.items():
            require(isinstance(values, Mapping) and len(values) > 0, f"selection.quotas.{column}", values, _QUOTA_FORM)
            for value, bounds in values.items():
                _check_bounds(f"selection.quotas.{column}.{value}", bounds)

    @property
    def limiting(self) -> list[str]:
        """Names of the options that are set and only a sequential rule can obey."""
        names = ("budget", "per_cost", "quotas", "min_distance", "share")
        excluding = ["near_target"] if self.near_target == "exclude" else []
        return [name for name in names if getattr(self, name)] + excluding


_QUOTA_FORM = "write {column: {value: {min: 10, max: 0.3}}}"


def _check_bounds(option: str, bounds: Any) -> None:
    require(
        isinstance(bounds, Mapping) and {*bounds} <= {"min", "max"} and len(bounds) > 0, option, bounds, _QUOTA_FORM
    )
    for side, bound in bounds.items():
        share = isinstance(bound, float) and 0 <= bound < 1
        require(
            is_whole(bound, 0) or share,
            f"{option}.{side}",
            bound,
            "give a number of rows, or a share of selection.n below 1",
        )


SEQUENTIAL_RULES = tuple(RULES)
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
    """itl, vtl, uncertainty or module:Class; or a baseline: nearest, cosine, random."""
    noise_variance: float = 1.0
    """rho^2, in units of the squared feature norm: how much of an observation is noise."""
    target_noise_variance: float | None = None
    """Noise on the targets (ITL). null: the same (eq. 44); 0: none (eq. 43)."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        names = SEQUENTIAL_RULES + BASELINE_RULES
        named = isinstance(self.name, str) and (self.name in names or ":" in self.name)
        require(named, "acquisition.name", self.name, f"use one of {', '.join(names)}, or module:Class")
        s2 = self.noise_variance
        require(is_positive(s2), "acquisition.noise_variance", s2, "give a positive number")
        s2a = self.target_noise_variance
        usable = s2a is None or (is_number(s2a) and s2a >= 0)
        require(usable, "acquisition.target_noise_variance", s2a, "give a number >= 0, or null")

    @property
    def in_memory(self) -> bool:
        """Whether the rule is an instance that no options describe (see `rules.settings_of`)."""
        return self.name.startswith("<")

    @property
    def takes_tasks(self) -> bool:
        """Whether the rule sums over tasks, rows to avoid among them; ConfigError where there is no such rule."""
        if self.name in BASELINE_RULES or self.in_memory:
            return False
        return load_rule(self.name).takes_tasks


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
            if value is not None and not self.acquisition.takes_tasks:
                able = " or ".join(name for name in RULES if load_rule(name).takes_tasks)
                raise ConfigError(f"{option} has no meaning for acquisition.name={self.acquisition.name}: use {able}")
        if self.state.dir is not None and self.selection.include is not None:
            raise ConfigError(
                "selection.include cannot go with state.dir: ticks know their own picks; other rows go to known.path"
            )
        if self.state.dir is not None and self.selection.replacement:
            raise ConfigError(
                "selection.replacement=true cannot go with state.dir, where no tick picks a row "
                "again: leave one of them out"
            )


def with_absolute_paths(settings: CurationSettings) -> CurationSettings:
    """Return the settings with absolute paths, so that config.yaml replays the run from any working directory.

    run.dir becomes runs/<time> where neither it nor state.dir is set.

    Raises:
        ConfigError: under `ray job submit`, whose working directory is a copy that vanishes with the job, unless
            run.dir is absolute.
    """
    state = replace(settings.state, dir=lasting_path("state.dir", settings.state.dir))
    is_tick_without_run = state.dir is not None and settings.run.dir is None
    path = None if is_tick_without_run else run_directory(settings.run.dir)
    pool, target, known, cluster = settings.pool, settings.target, settings.known, settings.cluster
    chosen = settings.selection
    home = str(cluster.cache_dir).startswith("~")  # that of each shard's machine
    return replace(
        settings,
        pool=replace(pool, path=absolute_path(pool.path), prior_covariance=absolute_path(pool.prior_covariance)),
        target=replace(target, path=absolute_path(target.path)),
        known=replace(known, path=absolute_path(known.path)),
        avoid=replace(settings.avoid, path=absolute_path(settings.avoid.path)),
        selection=replace(chosen, exclude=absolute_path(chosen.exclude), include=absolute_path(chosen.include)),
        cluster=cluster if home else replace(cluster, cache_dir=absolute_path(cluster.cache_dir)),
        run=replace(settings.run, dir=path),
        state=state,
        tracking=absolute_tracking(settings.tracking),
    )
