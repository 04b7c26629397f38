"""How a model is trained, as plain typed data that checks itself."""

from __future__ import annotations

from dataclasses import dataclass

from ray_itl.options.checks import Check, is_number, number_at_least, one_of, positive, require, true_or_false, whole
from ray_itl.options.declare import Options, option

OPTIMISERS = ("adam", "adamw", "sgd")
_MOMENTUM = Check("give a number from 0 to below 1", lambda value: is_number(value) and 0 <= value < 1)
_POSITIVE_OR_NULL = positive.said("give a positive number, or null")


@dataclass
class TrainingSettings(Options, group="training"):
    """How the model is trained in a round: optimiser, batches, and when to stop."""

    epochs: int = option(
        5, "Passes over the examples, or the most of them where stop_at_loss is set; 0 trains nothing.", whole(0)
    )
    batch_size: int = option(64, "Examples in a step, over all workers together.", whole(1))
    learning_rate: float = option(1e-3, "Of the optimiser.", positive.said("> 0"))
    optimiser: str = option("adam", "", one_of(*OPTIMISERS))
    weight_decay: float = option(0.0, "Of the optimiser.", number_at_least(0))
    momentum: float = option(0.0, "Of sgd.", _MOMENTUM)
    reweight_classes: bool = option(
        True,
        "Weigh an example of class c by n / (classes present * n_c); for the objective classification.",
        true_or_false.said("true or false"),
    )
    stop_at_loss: float | None = option(
        None,
        "Train to convergence: stop after the epoch whose mean loss is at most this. null: all epochs.",
        _POSITIVE_OR_NULL,
    )
    max_gradient_norm: float | None = option(
        None, "Scale a step's gradient down to this Euclidean norm. null: never.", _POSITIVE_OR_NULL
    )
    evaluation_batch_size: int = option(
        256,
        "Examples at a time when held-out data is scored; it changes memory, not results beyond rounding.",
        whole(1),
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        usable = self.momentum == 0 or self.optimiser == "sgd"
        require(usable, "training.momentum", self.momentum, "only sgd has it; give 0")
