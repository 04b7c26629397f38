"""How a model is trained, as plain typed data that checks itself."""

from __future__ import annotations

from dataclasses import dataclass

from ray_itl.options import is_number, is_positive, is_whole, require

OPTIMISERS = ("adam", "adamw", "sgd")


@dataclass
class TrainingSettings:
    """One fine-tuning: optimiser, batches, and when to stop. Randomness comes from the task's seed."""

    epochs: int = 5
    """Passes over the examples, or the most of them where stop_at_loss is set; 0 trains nothing."""
    batch_size: int = 64
    """Examples in a step, over all workers together."""
    learning_rate: float = 1e-3
    optimiser: str = "adam"
    """adam, adamw, sgd."""
    weight_decay: float = 0.0
    momentum: float = 0.0
    """Of sgd."""
    reweight_classes: bool = True
    """Weigh an example of class c by n / (classes present * n_c); for the objective classification."""
    stop_at_loss: float | None = None
    """Train to convergence: stop after the epoch whose mean loss is at most this. null: all epochs."""
    max_gradient_norm: float | None = None
    """Scale a step's gradient down to this Euclidean norm. null: never."""
    evaluation_batch_size: int = 256
    """Examples at a time when held-out data is scored; it changes memory, not results beyond rounding."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        for option, least in (("epochs", 0), ("batch_size", 1), ("evaluation_batch_size", 1)):
            value = getattr(self, option)
            require(is_whole(value, least), f"training.{option}", value, f"give a whole number of at least {least}")
        require(is_positive(self.learning_rate), "training.learning_rate", self.learning_rate, "> 0")
        require(
            self.optimiser in OPTIMISERS, "training.optimiser", self.optimiser, f"use one of {', '.join(OPTIMISERS)}"
        )
        decay = is_number(self.weight_decay) and self.weight_decay >= 0
        require(decay, "training.weight_decay", self.weight_decay, "give a number >= 0")
        momentum = is_number(self.momentum) and 0 <= self.momentum < 1
        require(momentum, "training.momentum", self.momentum, "give a number from 0 to below 1")
        require(
            self.momentum == 0 or self.optimiser == "sgd", "training.momentum", self.momentum, "only sgd has it; give 0"
        )
        require(
            isinstance(self.reweight_classes, bool), "training.reweight_classes", self.reweight_classes, "true or false"
        )
        for option in ("stop_at_loss", "max_gradient_norm"):
            value = getattr(self, option)
            require(value is None or is_positive(value), f"training.{option}", value, "give a positive number, or null")
