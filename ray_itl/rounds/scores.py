"""The score by which rounds are judged: its name, which way is better, and whether it fell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.training.round_trainer import TrainerSpec

_SCORES = {"classification": ("accuracy", True), "causal_lm": ("bits_per_byte", False)}
"""Objective -> the score that curves show, and whether more of it is better."""
_NOTABLE = 0.01
"""A score that is no share of right answers has fallen if it is worse by this part of itself."""


@dataclass(frozen=True)
class Score:
    """One score of the held-out rows."""

    name: str
    higher_is_better: bool

    @property
    def column(self) -> str:
        """Its column in learning_curves.parquet."""
        return f"heldout.{self.name}"

    @property
    def title(self) -> str:
        """Its name as people write it."""
        return self.name.replace("_", " ")

    def words(self, record: Mapping[str, Any]) -> str:
        """Return the score of a round in words."""
        value = record["heldout"].get(self.name)
        return f"no {self.title} yet" if value is None else f"{self.title} {value:.4f}"

    def fall(self, before: Mapping[str, Any], after: Mapping[str, Any], num_heldout: int) -> str | None:
        """Return a warning where a round made the score worse, by more than chance alone might.

        Of an accuracy that is more than its standard error over the held-out rows, sqrt(p (1 - p) / n).

        Args:
            before: The record of the round before.
            after: That of the round.
            num_heldout: n.
        """
        old, new = before["heldout"].get(self.name), after["heldout"].get(self.name)
        if old is None or new is None:
            return None
        worse = old - new if self.higher_is_better else new - old
        least = abs(old) * _NOTABLE
        if self.name == "accuracy":
            least = math.sqrt(max(old * (1 - old), 1 / num_heldout) / num_heldout)
        if worse <= least * (1 + 1e-9):  # of one row more that is wrong, too
            return None
        way = "fell" if self.higher_is_better else "rose"
        return (
            f"round {after['round']}: {self.title} on the {num_heldout:,} held-out rows {way} from {old:.4f} to "
            f"{new:.4f}; look at what was picked and how it was labelled, or train otherwise"
        )


def score_of(settings: FineTuneSettings) -> Score:
    """Return the score of a fine-tuning; ConfigError for a trainer of the user's that cannot be used."""
    trainer = settings.trainer
    if not trainer.is_own:
        return Score(*_SCORES[settings.model.objective])
    built = TrainerSpec(trainer.kind, trainer.options, settings.embedding.kind == "features").build()
    return Score(built.score_name, built.higher_is_better)
