"""Every option of a curation run: the rule, how much it picks and within which limits, where results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from ray_itl.core.acquisitions import RULES, load_rule
from ray_itl.curation.limit_settings import LimitSettings
from ray_itl.curation.machine_settings import is_plan, read_plan
from ray_itl.curation.percentage import number_among, number_or_percentage, read_number
from ray_itl.curation.result_settings import HubSettings, RunSettings
from ray_itl.curation.state_settings import StateSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.embedding.settings import with_absolute_paths_of
from ray_itl.errors import ConfigError
from ray_itl.observability.settings import TrackingSettings, absolute_tracking
from ray_itl.options.checks import (
    Check,
    any_seed,
    number_at_least,
    positive,
    require,
    true_or_false,
    whole,
)
from ray_itl.options.declare import Options, option
from ray_itl.runs.paths import absolute_path, lasting_path, run_directory
from ray_itl.sources.settings import AvoidSettings, HeldoutSettings, KnownSettings, PoolSettings, TargetSettings

SEQUENTIAL_RULES = tuple(RULES)
BASELINE_RULES = ("nearest", "cosine", "random")
_BY_TASK = "cosine"
"""The baseline that looks at each of several tasks by itself."""
_NAMES = (*SEQUENTIAL_RULES, *BASELINE_RULES)
ENOUGH_TARGETS = 20
"""Of fewer the noise is larger by default: see docs/noise-and-normalisation.md for what that rests on."""
_IS_RELATIVE = f"{ENOUGH_TARGETS} / targets, at least 1, x the mean squared norm"


def is_rule(name: object) -> bool:
    """Whether a name is that of a rule of ours, a baseline, or a rule of the caller's own as module:Class."""
    return isinstance(name, str) and (name in RULES or name in BASELINE_RULES or ":" in name)


@dataclass
class AcquisitionSettings(Options, group="acquisition"):
    """The rule that scores a row."""

    name: str = option(
        "itl",
        f"{' | '.join(SEQUENTIAL_RULES)}, or a baseline: {' | '.join(BASELINE_RULES)}. A rule of your own: "
        "acquisition.name=module:Class.",
        Check(f"use one of {', '.join(_NAMES)}, or module:Class", is_rule),
        spelled="acquisition",
    )
    noise_variance: float | None = option(
        None,
        "How much of an observation is noise (rho^2), in units of the squared feature norm. null: relative_noise says.",
        positive.said("give a number > 0, or null"),
    )
    target_noise_variance: float | None = option(
        None,
        "Noise on the targets (itl). null: the same (eq. 44); 0: none (eq. 43).",
        number_at_least(0).said("give a number >= 0, or null"),
    )
    relative_noise: float | None = option(
        None,
        "The same as a multiple of the mean squared norm of the pool's features (in ticks of the first tick's, in "
        "fine-tuning of each round's): the picks do not depend on the units of the embedding. null: "
        f"{ENOUGH_TARGETS} over the number of targets (their weights summed up, of the smallest task or query), at "
        "least 1; with less, rows opposite to a single target would be picked for it.",
        positive.said("give a number > 0, or null"),
        decides=False,  # noise_variance tells of it
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        alone = self.noise_variance is None or self.relative_noise is None
        require(alone, "acquisition.relative_noise", self.relative_noise, "set acquisition.noise_variance=null with it")

    def identity_of(self, name: str) -> str | None:
        """See `Options.identity_of`; the noise variance may be relative."""
        if name == "noise_variance" and self.noise_variance is None:
            given = self.relative_noise
            return _IS_RELATIVE if given is None else f"{given!r} x the mean squared norm"
        return super().identity_of(name)

    def as_begun(self, identity: Mapping[str, str]) -> Self:
        """Return the options that a run or state directory of an identity was begun with, where they differ by default.

        The default was a noise variance of 1, then a relative noise of 1; what was begun with either goes on with that.
        """
        if self.noise_variance is not None or self.relative_noise is not None:
            return self
        began = identity.get("acquisition.noise_variance")
        former = replace(self, noise_variance=1.0), replace(self, relative_noise=1.0)
        return next((each for each in former if each.identity_of("noise_variance") == began), self)

    @property
    def looks_at_targets(self) -> bool:
        """Whether targets have a part in what a row is worth, and so in which noise would do."""
        return self.name != "uncertainty"

    def noise_multiple(self, num_targets: float) -> float:
        """Return the noise variance over the mean |x|^2 of the pool's features, where it is relative.

        Args:
            num_targets: Of the smallest task or query, each as often as its weight says; 0: there are none.
        """
        if self.relative_noise is not None:
            return self.relative_noise
        return max(1.0, ENOUGH_TARGETS / num_targets) if num_targets and self.looks_at_targets else 1.0

    def on_rows(self, mean_squared_norm: float, num_targets: float) -> Self:
        """Return the options with the noise variance as a number.

        Args:
            mean_squared_norm: Mean |x|^2 of the pool's features.
            num_targets: As of `noise_multiple`.
        """
        if self.noise_variance is not None:
            return self
        scale = mean_squared_norm or 1.0  # among rows that are all zero nothing depends on it
        return replace(self, noise_variance=self.noise_multiple(num_targets) * scale, relative_noise=None)

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

    n: Any = option(
        100,
        "Rows to pick: a number, or a percentage like 5% of the rows that may be picked (of a tick: its candidates), "
        "rounded down, at least 1.",
        number_or_percentage,
        per_tick=True,
    )
    replacement: bool = option(False, "Whether a row may be picked more than once.", true_or_false, per_tick=True)
    seed: int = option(
        0, "Fixes random features and the random baseline; nothing else in a selection is random.", any_seed
    )
    min_gain: float = option(
        0.0,
        "Stop before the first pick whose gain per unit of cost (every row costs 1) is less; 0 never stops.",
        number_at_least(0),
        per_tick=True,
    )
    nearest: int | None = option(
        None,
        "With target.query_column: look only at so many rows for each query, those that gain most before the first "
        "pick, and say what any other could have gained. null: at all rows, exactly.",
        whole(1).said("give a whole number >= 1, or null"),
        decides=False,  # only with queries, of whose identity it is a part
        per_tick=True,
    )
    explain: bool = option(
        False,
        "Add columns that say why each row was picked: nearest targets, targets it informs about, nearest earlier "
        "pick, runner-up and its margin. Takes one more pass over the pool.",
        true_or_false,
        decides=False,  # no pick depends on it
        per_tick=True,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        self.n = read_number(self.n)
        super().__post_init__()
        together = not (self.replacement and self.min_distance is not None)
        require(together, "selection.min_distance", self.min_distance, "leave it out with selection.replacement=true")

    def among(self, num_rows: int) -> Self:
        """Return the options with n as a number: of so many rows, where it is a percentage."""
        return replace(self, n=number_among(self.n, num_rows))


@dataclass
class EvaluationSettings(Options, group="evaluation"):
    """Count how many picks belong to the target task, where a column of the pool tells."""

    class_column: str | None = option(None, "Column that tells which task a row belongs to.", decides=False)
    classes: list[Any] = option(
        [],
        "Its values that belong to the task, as [3,6,9]; picks are counted beside nearest's and random's.",
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError where only one of the two is set."""
        super().__post_init__()
        if (self.class_column is None) != (not self.classes):
            missing = "evaluation.class_column" if self.class_column is None else "evaluation.classes"
            raise ConfigError(f"{missing} is not set: give both class_column and classes, or neither")


@dataclass
class CurationSettings(Options):
    """Everything that a selection takes."""

    pool: PoolSettings = field(default_factory=PoolSettings)
    target: TargetSettings = field(default_factory=TargetSettings)
    known: KnownSettings = field(default_factory=KnownSettings)
    avoid: AvoidSettings = field(default_factory=AvoidSettings)
    heldout: HeldoutSettings = field(default_factory=HeldoutSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    acquisition: AcquisitionSettings = field(default_factory=AcquisitionSettings)
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    run: RunSettings = field(default_factory=RunSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    state: StateSettings = field(default_factory=StateSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    plan: Any = option(
        False,
        "true: say what the run would take (memory, disk, passes, time), and stop. On machines that are not at hand: "
        "plan.nodes=16 plan.cpus=32 plan.memory=256GiB, and plan.gpus, plan.gpu_memory, plan.disk (of each), plan.rows "
        "(as if the pool had so many).",
        Check("give true or false, or plan.nodes=16 plan.cpus=32 plan.memory=256GiB", is_plan),
        decides=False,
    )

    def __post_init__(self) -> None:
        """Raise ConfigError for options that contradict each other."""
        self.plan = read_plan(self.plan)
        super().__post_init__()
        if (self.pool.path is None) != (self.target.path is None):
            missing = "pool.path" if self.pool.path is None else "target.path"
            raise ConfigError(f"{missing} is not set: give both pool.path and target.path, or neither for the demo")
        if self.heldout.path is None and self.heldout != HeldoutSettings():
            raise ConfigError("heldout.path is not set, but other options of heldout are: give it, or leave them out")
        if self.run.push_to_hub is None and self.hub != HubSettings():
            raise ConfigError("run.push_to_hub is not set, but options of hub are: give it, or leave them out")
        if self.selection.nearest is not None and self.target.query_column is None:
            raise ConfigError(
                f"selection.nearest={self.selection.nearest} goes with target.query_column: set it, or leave this out"
            )
        self._check_encoder()
        rule = self.acquisition.name
        asked = [name for name in ("replacement", "min_gain") if getattr(self.selection, name)]
        for name in [*asked, *self.selection.limiting]:
            value = getattr(self.selection, name)
            if rule in BASELINE_RULES:
                raise ConfigError(
                    f"selection.{name}={str(value).lower()} has no meaning for acquisition.name={rule}: leave it out, "
                    f"or use one of {', '.join(SEQUENTIAL_RULES)}"
                )
        able = [each for each in RULES if load_rule(each).takes_tasks]
        for name, value, others in (
            ("avoid.path", self.avoid.path, []),
            ("target.task_column", self.target.task_column, [_BY_TASK]),
        ):
            if value is not None and not self.acquisition.takes_tasks and rule not in others:
                may = " or ".join([*able, *others])
                raise ConfigError(f"{name} has no meaning for acquisition.name={rule}: use {may}")
        if self.state.dir is not None and self.selection.include is not None:
            raise ConfigError(
                "selection.include cannot go with state.dir: ticks know their own picks; other rows go to known.path"
            )
        if self.state.dir is not None and self.selection.replacement:
            raise ConfigError(
                "selection.replacement=true cannot go with state.dir, where no tick picks a row "
                "again: leave one of them out"
            )

    def _check_encoder(self) -> None:
        groups = {"pool": self.pool, "target": self.target, "known": self.known, "avoid": self.avoid}
        if self.encoder.name is not None:
            return
        for name, group in groups.items():
            if group.text_column is not None:
                raise ConfigError(
                    f"{name}.text_column={group.text_column} has no meaning without encoder: name the model that "
                    "embeds it"
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
    home = str(cluster.cache_dir).startswith("~")  # that of each shard's machine, as is:
    encoder = settings.encoder
    name, cache = encoder.name, encoder.cache
    name = absolute_path(name) if name is not None and Path(name).exists() else name
    cache = cache if str(cache).startswith("~") else lasting_path("encoder.cache", cache)
    return replace(
        settings,
        pool=replace(pool, path=absolute_path(pool.path), prior_covariance=absolute_path(pool.prior_covariance)),
        target=replace(target, path=absolute_path(target.path)),
        known=replace(known, path=absolute_path(known.path)),
        avoid=replace(settings.avoid, path=absolute_path(settings.avoid.path)),
        heldout=replace(settings.heldout, path=absolute_path(settings.heldout.path)),
        selection=replace(chosen, exclude=absolute_path(chosen.exclude), include=absolute_path(chosen.include)),
        encoder=replace(
            encoder,
            name=name,
            cache=cache,
            checkpoint=absolute_path(encoder.checkpoint),
            checkpoints=with_absolute_paths_of(encoder.checkpoints),
        ),
        cluster=cluster if home else replace(cluster, cache_dir=absolute_path(cluster.cache_dir)),
        run=replace(settings.run, dir=path),
        state=state,
        tracking=absolute_tracking(settings.tracking),
    )
