"""What an active fine-tuning takes: all groups of options, and what they mean together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

from ray_itl.distributed.settings import ClusterSettings
from ray_itl.errors import ConfigError
from ray_itl.observability.settings import TrackingSettings
from ray_itl.options.checks import require
from ray_itl.options.declare import Options
from ray_itl.rounds.group_settings import (
    CLASSIFIER_NOISE,
    LANGUAGE_NOISE,
    TEXT_ENCODER,
    CandidateSettings,
    DataSettings,
    LabelSettings,
    ModelSettings,
    RoundEmbeddingSettings,
    RoundSettings,
    RuleSettings,
    TaskSettings,
    TuningRunSettings,
)
from ray_itl.rounds.sweep_settings import SweepSettings
from ray_itl.rounds.trainer_settings import TAKEN, TrainerSettings
from ray_itl.training.settings import TrainingSettings


@dataclass
class FineTuneSettings(Options):
    """Everything that one active fine-tuning takes."""

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    embedding: RoundEmbeddingSettings = field(default_factory=RoundEmbeddingSettings)
    acquisition: RuleSettings = field(default_factory=RuleSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    rounds: RoundSettings = field(default_factory=RoundSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    cluster: ClusterSettings = field(default_factory=lambda: ClusterSettings(num_shards=0))
    run: TuningRunSettings = field(default_factory=TuningRunSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)

    def __post_init__(self) -> None:
        """Raise ConfigError for options that contradict each other."""
        super().__post_init__()
        if self.acquisition.name == "badge" and self.embedding.kind == "features":
            raise ConfigError("acquisition.name=badge clusters gradient embeddings: set embedding.kind=gradient")
        if self.embedding.kind == "lora_gradient" and self.model.objective != "causal_lm":
            raise ConfigError("embedding.kind=lora_gradient is of language models: set model.objective=causal_lm")
        if self.trainer.is_own:
            self._check_own_trainer()

    @property
    def _relative_noise(self) -> float | None:
        """The default where it is not that of a selection, by what is trained on the picks and sees the rows."""
        if self.model.objective == "causal_lm":
            return LANGUAGE_NOISE
        by_classifier = self.model.name != TEXT_ENCODER and self.embedding.kind in ("features", "gradient")
        return CLASSIFIER_NOISE if by_classifier else None

    def with_noise(self, identity: Mapping[str, str]) -> Self:
        """Return the settings with the noise that is the default for what is fine-tuned, where none is set.

        Args:
            identity: Of the run that goes on; empty of a new one. What began with a former default goes on with that.
        """
        rule = self.acquisition.as_begun(identity)
        unset = rule.noise_variance is None and rule.relative_noise is None and rule.looks_at_targets
        if unset and identity.get("acquisition.noise_variance") != rule.identity_of("noise_variance"):
            rule = replace(rule, relative_noise=self._relative_noise)
        return replace(self, acquisition=rule)

    def _check_own_trainer(self) -> None:
        kind = self.trainer.kind
        require(self.data.raw_column not in TAKEN, "data.raw_column", self.data.raw_column, "call it otherwise")
        if self.embedding.kind in ("gradient", "lora_gradient"):
            raise ConfigError(
                f"embedding.kind={self.embedding.kind} is of models that come along: with trainer.kind={kind} use "
                "features"
            )
        plain = ModelSettings(objective=self.model.objective)
        for group, given, default in (("model", self.model, plain), ("training", self.training, TrainingSettings())):
            other = [each.name for each in fields(given) if getattr(given, each.name) != getattr(default, each.name)]
            if other:
                raise ConfigError(
                    f"{group}.{other[0]}={getattr(given, other[0])!r} says nothing to trainer.kind={kind}: leave it "
                    "out (with experiment=none), and hand it over in trainer.options"
                )
        for name, default in (("repeats", 1), ("keep_checkpoints", "all")):
            value = getattr(self.rounds, name)
            require(value == default, f"rounds.{name}", value, f"it is of models that come along, not of {kind}")
        for name in ("projection_dim", "unit_norm"):
            if getattr(self.embedding, name):
                raise ConfigError(
                    f"embedding.{name} is of models that come along: `features` of trainer.kind={kind} does it"
                )


@dataclass
class FineTuneJobSettings(FineTuneSettings):
    """Everything that a fine-tuning, or a sweep of them, takes."""

    task: TaskSettings = field(default_factory=TaskSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
