"""How a model is trained, as plain typed data that checks itself."""

from __future__ import annotations

from dataclasses import dataclass

from ray_itl.options.checks import Check, is_number, number_at_least, one_of, positive, require, true_or_false, whole
from ray_itl.options.declare import Options, option

OPTIMISERS = ("adam", "adamw", "sgd")
_MOMENTUM = Check("give a number from 0 to below 1", lambda value: is_number(value) and 0 <= value < 1)
_POSITIVE_OR_NULL = positive.said("give a positive number, or null")
_SHARE_OR_NULL = Check("give a number from 0 to 0.5, or null", lambda value: is_number(value) and 0 <= value <= 0.5)
CHECK_STEPS = 20
PATIENCE = 5
LEARNT_LOSS = 0.01
MOST_HELD_BACK = 500
_LATER = ("steps", "patience", "held_back", "keep_second_moments")
"""Options that earlier versions did not have: unset, they train as those did where epochs was set."""


@dataclass
class TrainingSettings(Options, group="training"):
    """How the model is trained in a round: optimiser, batches, and when to stop."""

    epochs: int | None = option(
        None,
        "Passes over the examples, or the most of them where something stops earlier; 0 trains nothing. null, with "
        "steps=null: until the loss stops falling.",
        whole(0),
    )
    steps: int | None = option(
        None,
        "Batches trained on, or the most of them, however few the examples are. null: no limit of this kind.",
        whole(0),
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
        "Train to convergence: stop after the epoch whose mean loss, and that of the weights after it, is at most "
        f"this. null: {LEARNT_LOSS:g} where neither epochs nor steps is set, else never.",
        _POSITIVE_OR_NULL,
    )
    patience: int | None = option(
        None,
        f"Stop once the loss has not fallen for so many checks, one every {CHECK_STEPS} steps or epoch, whichever is "
        f"longer. null: {PATIENCE} where neither epochs nor steps is set, else never.",
        whole(1),
    )
    held_back: float | None = option(
        None,
        f"Share of the examples (at most {MOST_HELD_BACK} of them) kept out of training, whose loss it is that has to "
        "fall; the weights at its least are kept. 0: none, the loss of training has to. null: with patience (set or "
        "not) a tenth from 200 examples on, of texts for causal_lm a fifth from 10 on, else none.",
        _SHARE_OR_NULL,
    )
    max_gradient_norm: float | None = option(
        None, "Scale a step's gradient down to this Euclidean norm. null: never.", _POSITIVE_OR_NULL
    )
    keep_second_moments: bool = option(
        False,
        "Write Adam's means of squared gradients beside each checkpoint, for gradients of adapters as LESS takes them.",
        true_or_false,
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
        usable = self.optimiser != "sgd" or not self.keep_second_moments
        require(usable, "training.keep_second_moments", self.keep_second_moments, "sgd has none; use adam")
        watched = self.patience is not None or self.stops_by_itself or not self.held_back
        why = "set training.patience with it, or neither training.epochs nor training.steps"
        require(watched, "training.held_back", self.held_back, why)

    @property
    def stops_by_itself(self) -> bool:
        """Whether nothing says how long to train, so that the loss does."""
        return self.epochs is None and self.steps is None

    def identity_of(self, name: str) -> str | None:
        """See `Options.identity_of`."""
        value = getattr(self, name)
        is_unset = value is None or value is False  # 0 is a number of steps, and a share held back
        return None if name in _LATER and is_unset else super().identity_of(name)
