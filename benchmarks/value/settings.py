"""Options of the suites of value, and the rules by which they compare, which were fixed before any test was scored.

- A test is a held-out passage. Those of numbers 0 to 49 of each source are for tuning (the learning rate, the noises);
  what is reported is of numbers 50 to 99, whose documents nobody has looked at.
- The documents of all 100 are out of every pool, and so are rows that are nearly equal to one of the passages.
- Every rule picks the same number of rows for a test, each test for itself, and a fresh copy of the model takes one
  step on each of them in that order. Nothing is chosen by a test's own score.
- With one target ITL and VTL rank rows alike, so they pick the same and cost nothing twice.
- Reported is the mean over tests of bits per byte, and of each test's difference to `nearest`, with its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from benchmarks.value.rules import FEATURES, Rule
from ray_itl.errors import ConfigError
from ray_itl.options.checks import Check, is_whole, one_of, positive, positive_up_to, require, true_or_false, whole
from ray_itl.options.declare import Options, option

POOLS = ("clean", "edited", "natural")
RESERVED = 100
"""Documents of each source that are out of all pools, tests are made of."""
RULES = ("random", "nearest", "nearest@0.85", "nearest@0.95", "vtl@1", "vtl@10", "itl@1", "itl@10")


GRADIENT_RULES = (
    *("random", "nearest", "vtl@10", "rds-nearest"),
    *("lora-nearest", "lora-vtl@10", "adam-nearest", "adam-vtl@10"),
)


def _are_rules(value: list[str], with_features: bool) -> bool:
    try:
        rules = {Rule.parse(name) for name in value}
    except ConfigError:
        return False
    return len(rules) == len(value) > 0 and (with_features or all(rule.features is None for rule in rules))


def _rise(value: list[int]) -> bool:
    return len(value) > 0 and is_whole(value[0], 1) and all(b > a for a, b in pairwise(value))


_IS_RULES = Check(
    "give each once: random, nearest, vtl@NOISE or itl@NOISE (acquisition.relative_noise); nearest@COSINE or "
    "vtl@NOISE@COSINE pass over rows as alike to an earlier pick",
    lambda value: _are_rules(value, with_features=False),
)
_IS_RULES_OF_FEATURES = Check(
    f"as sift.rules, and each but random also of features, as rds-nearest: {', '.join(FEATURES)}",
    lambda value: _are_rules(value, with_features=True),
)
_RISING = Check("give rising whole numbers of at least 1", _rise)
_FEW = Check(f"give a whole number from 0 to {RESERVED - 1}", lambda value: is_whole(value, 0) and value < RESERVED)


@dataclass
class TuningOptions(Options):
    """How a language model is fine-tuned for a passage, and scored."""

    n: int = option(50, "Rows picked for a test, with one step on each.", whole(1))
    scored_after: list[int] = option([5, 10, 20, 35, 50], "Steps after which the test is scored.", _RISING)
    model: str | None = option(None, "A causal language model by folder or name. null: SmolLM2-135M of a package.")
    start_token: str | None = option("<|endoftext|>", "What documents began with where the model was pretrained.")
    max_tokens: int = option(128, "Of a row and of a test; the rest is cut off, and is not scored.", whole(1))
    lora_rank: int = option(8, "Of the adapters, on the layers that lora_modules names.", whole(1))
    lora_modules: list[str] = option(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], "Layers that get adapters."
    )
    learning_rate: float = option(1e-3, "Of Adam, begun anew for each test.", positive)
    precision: str = option(
        "bfloat16",
        "Of the frozen weights in training; adapters, and all of scoring, are in float32.",
        one_of("bfloat16", "float32"),
    )
    processes: int = option(2, "Tests side by side, each on one core; 0: in this process.", whole(0), decides=False)

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        last, allowed = self.scored_after[-1], f"the last step is {self.group}.n={self.n}: end there"
        require(last == self.n, f"{self.group}.scored_after", self.scored_after, allowed)


@dataclass
class HeldOutOptions(TuningOptions):
    """Which passages are tests, and what is compared on them."""

    rules: list[str] = option(list(RULES), "In this order; differences are to `nearest`.", _IS_RULES, decides=False)
    tests: int = option(50, "Held-out passages of each source: bbc, brown, mail.", whole(1), decides=False)
    first_test: int = option(
        50, f"Number of the first of them, below {RESERVED}: 0 to 49 are for tuning.", _FEW, decides=False
    )
    leak: float = option(
        0.95, "Rows whose cosine to a held-out passage is at least this are out of the pool.", positive_up_to(1)
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        allowed = f"there are {RESERVED} of a source, and the first is number {self.group}.first_test={self.first_test}"
        require(self.first_test + self.tests <= RESERVED, f"{self.group}.tests", self.tests, allowed)


@dataclass
class SiftSettings(HeldOutOptions, group="sift"):
    """A language model is fine-tuned for one held-out passage at a time, by rows picked for it (SIFT's protocol)."""

    pools: list[str] = option(
        ["clean"],
        "clean: passages of four sources, no text twice. edited: `rows` of them, each once to `most_copies` times, "
        "lightly edited. natural: mails and BBC articles with whatever repeats they have.",
        Check(f"choose from {', '.join(POOLS)}", lambda value: len(value) > 0 and {*value} <= {*POOLS}),
        decides=False,
    )
    rows: int = option(30_000, "Of the clean pool, for the edited one, before they are copied.", whole(1))
    most_copies: int = option(8, "Of a row of the edited pool; how many is drawn evenly.", whole(1))


@dataclass
class SiftCopiesSettings(SiftSettings, group="sift_copies"):
    """The same from pools in which rows have copies."""

    pools: list[str] = option(["edited", "natural"], "As sift.pools.", decides=False)


@dataclass
class RedundancySettings(HeldOutOptions, group="redundancy"):
    """How rules fall as every row of the pool gets more copies."""

    copies: list[int] = option([1, 2, 4, 8, 16, 32], "Of every row, the row among them; each in turn.", _RISING)
    noises: list[float] = option(
        [1.0, 10.0],
        "Noise variances at which I(f_A; y_X) of the picks is computed.",
        Check("give numbers above 0", lambda value: all(positive.holds(each) for each in value)),
        decides=False,
    )
    tests: int = option(8, "As sift.tests.", whole(1))
    first_test: int = option(50, "Number of the first of them.", _FEW)
    nearest: int = option(100, "The pool: of each test the rows most like it, before they are copied.", whole(1))
    score: bool = option(False, "Fine-tune for every test as well: bits per byte, hours.", true_or_false, decides=False)

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        _require_enough(self)


@dataclass
class GradientsSettings(HeldOutOptions, group="gradients"):
    """Rules by what a row would teach the model, beside rules by what it is like."""

    rules: list[str] = option(
        list(GRADIENT_RULES),
        "In this order, as sift.rules; by embeddings, or by rds- (hidden states of the model, position-weighted), "
        "lora- (gradients of its adapters) or adam- (the same as Adam scales them).",
        _IS_RULES_OF_FEATURES,
        decides=False,
    )
    tests: int = option(5, "As sift.tests.", whole(1))
    first_test: int = option(50, "Number of the first of them.", _FEW)
    nearest: int = option(100, "The pool: of each test the rows whose embeddings are most like it.", whole(1))
    others: int = option(600, "And so many of all others, at random.", whole(0))
    warmup: int = option(
        200, "Rows outside of the pool for the adapters to be trained on before, a step on each.", whole(1)
    )
    projection_dim: int = option(8192, "Numbers that are kept of a gradient.", whole(1))

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        _require_enough(self)


def _require_enough(settings: RedundancySettings | GradientsSettings) -> None:
    """Raise ConfigError if the rows most like a test are fewer than are picked for it."""
    enough = f"{settings.n} rows are to be picked ({settings.group}.n)"
    require(settings.nearest >= settings.n, f"{settings.group}.nearest", settings.nearest, enough)
