"""Options of `python -m benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.value.settings import GradientsSettings, RedundancySettings, SiftCopiesSettings, SiftSettings
from ray_itl.core.block_schedule import HELD_WHOLE
from ray_itl.options.checks import Check, is_positive, is_whole, one_of, positive, positive_up_to, require, size, whole
from ray_itl.options.declare import Options, option

SUITES = (
    *("engine", "large", "disk", "rounds", "convergence", "scaling"),
    *("shards", "gpu", "embedding", "queries", "features", "noise", "peers"),
    *("sift", "sift_copies", "gradients", "redundancy"),
)
ALL = "all"
NOT_IN_ALL = (
    *("peers", "gpu", "embedding", "queries", "features", "noise"),
    *("sift", "sift_copies", "gradients", "redundancy"),
)
"""They need further packages and data, a CUDA device, or hours."""
PEER_DATA = ("wordnet", "synthetic")
NOISE_DATA = ("digits", "wordnet", "mnist", "fashion-mnist", "cifar10")
NOISE_FEATURES = ("as_is", "unit_norm", "centred")
_ROWS, _DIM = "Rows of the pool.", "Numbers of an embedding."
_TARGETS, _N, _NOISE = "Targets.", "Rows to pick.", "acquisition.noise_variance."
_OFTEN, _IF_SHORT = "How often; medians are shown.", "How often, where a selection takes less than ten seconds."
_COUNTS = Check("give whole numbers of at least 1", lambda value: all(is_whole(number, 1) for number in value))
_COUNT, _COUNT_OR_NONE = whole(1), whole(0)

_THREE_COUNTS = Check(
    "give three whole numbers of at least 1, or more",
    lambda value: len({*value}) > 2 and all(is_whole(number, 1) for number in value),
)
_PASSED_OVER = Check(
    f"give more than {HELD_WHOLE:,}: fewer rows are held whole, and no pass is made",
    lambda value: is_whole(value, HELD_WHOLE + 1),
)
_ABOVE_ZERO = positive.said("give a number above 0")


def _some_of(*choices: str) -> Check:
    return Check(f"choose from {', '.join(choices)}", lambda value: len(value) > 0 and {*value} <= {*choices})


_SOME_COUNTS = Check(
    "give whole numbers of at least 1", lambda value: len(value) > 0 and all(is_whole(number, 1) for number in value)
)


@dataclass
class EngineSettings(Options, group="engine"):
    """The engine on a pool in memory."""

    num_rows: int = option(1_000_000, _ROWS, _PASSED_OVER)
    dim: int = option(384, _DIM, _COUNT)
    num_targets: int = option(64, _TARGETS, _COUNT)
    n: int = option(100, _N, _COUNT)
    noise_variances: list[float] = option([1.0, 0.05], "Each of them in turn.")
    repeats: int = option(3, _OFTEN, _COUNT)
    num_shards: int = option(2, "Ray shards to compare with this process; 0: none.", _COUNT_OR_NONE)


@dataclass
class LargeSettings(Options, group="large"):
    """A whole run of a selection from Parquet."""

    num_rows: int = option(10_000_000, _ROWS, _COUNT)
    dim: int = option(128, _DIM, _COUNT)
    num_targets: int = option(64, _TARGETS, _COUNT)
    n: int = option(100, _N, _COUNT)
    noise_variance: float = option(1.0, _NOISE)
    num_shards: str = option("auto", "cluster.num_shards.")
    options: list[str] = option([], "Further options of the run, like [cluster.memory_per_shard=16GiB].")


@dataclass
class DiskSettings(Options, group="disk"):
    """A pool that is larger than a shard's memory limit."""

    num_rows: int = option(2_000_000, _ROWS, _COUNT)
    dim: int = option(384, _DIM, _COUNT)
    dtype: str = option("float32", "pool.dtype.")
    times_memory: float = option(4.0, "Bytes of features to a shard's memory limit.", _ABOVE_ZERO)
    num_targets: int = option(64, _TARGETS, _COUNT)
    n: int = option(100, _N, _COUNT)
    noise_variance: float = option(1.0, _NOISE)
    num_shards: int = option(
        1,
        "1: a Ray shard; 0: in the job's own process, whose driver then counts towards the limit.",
        Check("give 0 or 1", lambda value: value in (0, 1)),
    )


@dataclass
class RoundsSettings(Options, group="rounds"):
    """Rounds of fine-tuning on digits, by every trainer."""

    count: int = option(4, "Rounds.", _COUNT)
    batch: int = option(5, "Rows of a round.", _COUNT)
    repeats: int = option(3, _OFTEN, _COUNT)


@dataclass
class ConvergenceSettings(Options, group="convergence"):
    """Repeated picks from a small pool of digits."""

    num_rows: int = option(40, _ROWS, _COUNT)
    num_targets: int = option(30, _TARGETS, _COUNT)
    n: int = option(4000, _N, _COUNT)
    noise_variance: float = option(0.1, _NOISE)


@dataclass
class ScalingSettings(Options, group="scaling"):
    """One thing varied at a time around a base; an empty list skips it."""

    num_rows: int = option(50_000, _ROWS, _COUNT)
    dim: int = option(256, _DIM, _COUNT)
    num_targets: int = option(64, _TARGETS, _COUNT)
    n: int = option(100, _N, _COUNT)
    noise_variance: float = option(1.0, _NOISE)
    repeats: int = option(3, _IF_SHORT, _COUNT)
    local_shards: list[int] = option([1, 2, 4, 8], "Shards in this process.", _COUNTS)
    ray_shards: list[int] = option([1, 2, 4, 8], "Ray shards on this machine.", _COUNTS)
    nodes: list[int] = option(
        [1, 2, 3], "Nodes of a cluster that is simulated on this machine, with two shards each.", _COUNTS
    )
    dims: list[int] = option([64, 256, 1024], "Values of dim.", _COUNTS)
    wide: int = option(1024, "Above this dim the pool has wide_rows.", _COUNT)
    wide_rows: int = option(20_000, "Rows of such a pool, for the sake of memory.", _COUNT)
    picks: list[int] = option([10, 100, 1000], "Values of n.", _COUNTS)
    targets: list[int] = option([1, 100, 10_000, 100_000], "Values of num_targets.", _COUNTS)


@dataclass
class ShardsSettings(Options, group="shards"):
    """What a pass costs the driver for every shard."""

    counts: list[int] = option([4, 16, 36, 64], "Ray shards, each a process of its own (250 MiB).", _THREE_COUNTS)
    rows: int = option(256, "Of each shard: few, so that shards have next to nothing to do.", whole(64))
    dim: int = option(384, _DIM, _COUNT)
    num_targets: int = option(64, _TARGETS, _COUNT)
    n: int = option(256, _N, _COUNT)
    noise_variance: float = option(0.1, _NOISE, _ABOVE_ZERO)
    repeats: int = option(3, _OFTEN, _COUNT)
    many: int = option(512, "Shards to extrapolate to.", _COUNT)
    many_rows: int = option(2_000_000, "Rows of each of those, whose own seconds a pass are measured on fewer.", _COUNT)


@dataclass
class GpuSettings(Options, group="gpu"):
    """The passes of the engine beside what the device can do."""

    device: str = option("cuda", "A CUDA device; cpu tries the program out.")
    num_rows: int = option(1_000_000, _ROWS, _PASSED_OVER)
    dim: int = option(768, _DIM, _COUNT)
    num_targets: int = option(64, _TARGETS, _COUNT)
    n: int = option(200, _N, _COUNT)
    noise_variance: float = option(0.1, _NOISE, _ABOVE_ZERO)
    repeats: int = option(5, _OFTEN, _COUNT)


@dataclass
class EmbeddingBenchmarkSettings(Options, group="embedding"):
    """Texts into embeddings, beside sentence-transformers' own way."""

    num_rows: int = option(20_000, "Texts: glosses of WordNet.", _COUNT)
    model: str | None = option(None, "A model of sentence-transformers by name or folder. null: MiniLM of a package.")
    batch_sizes: list[int] = option([32, 64, 128, 256], "Of encode(), each tried; the fastest takes part.", _COUNTS)
    tried: float = option(0.1, "Share of the texts on which they are tried.", positive_up_to(1))
    repeats: int = option(3, _OFTEN, _COUNT)


@dataclass
class QueriesSettings(Options, group="queries"):
    """Many queries of one pool, beside activeft's batch search."""

    num_rows: list[int] = option([100_000, 1_000_000], "Rows of the pool, each in turn.", _COUNTS)
    dim: int = option(384, _DIM, _COUNT)
    count: int = option(1000, "Queries, of one target each.", _COUNT)
    n: int = option(50, _N, _COUNT)
    noise_variance: float = option(0.1, _NOISE, _ABOVE_ZERO)
    nearest: list[int] = option([200, 1000], "Rows that are looked at for a query, by ray_itl and activeft.", _COUNTS)
    exact: int = option(100, "Queries of which all rows are looked at, at once; 0: none.", _COUNT_OR_NONE)
    alone: int = option(20, "Queries that are also selected for one by one; 0: none.", _COUNT_OR_NONE)
    num_threads: int = option(0, "0: as many as torch takes.", _COUNT_OR_NONE)


@dataclass
class FeaturesSettings(Options, group="features"):
    """Kernels that are small for unlike rows, and their features, beside the cosine."""

    num_rows: int = option(20_000, "Glosses of WordNet that are embedded; the pool and its targets.", whole(1000))
    num_targets: list[int] = option([1, 48], "Targets of a task, each number in turn.", _COUNTS)
    n: int = option(50, _N, _COUNT)
    noises: list[float] = option([0.1, 1.0, 10.0], "acquisition.relative_noise, each in turn.")
    rules: list[str] = option(
        ["itl", "vtl"],
        "Each in turn.",
        Check("choose from itl, vtl", lambda value: len(value) > 0 and {*value} <= {"itl", "vtl"}),
    )
    num_features: int = option(1024, "Random features, and four times as many.", _COUNT)
    degree: int = option(6, "Of the polynomial kernel.", _COUNT)
    repeats: int = option(8, "Tasks, each of a class that is drawn.", _COUNT)


@dataclass
class PeersSettings(Options, group="peers"):
    """ray_itl beside other packages on the same data."""

    data: list[str] = option(
        list(PEER_DATA),
        "What they select from.",
        _some_of(*PEER_DATA),
    )
    num_rows: list[int] = option(
        [1000, 10_000, 100_000, 1_000_000], "Rows of the pool of all peers, each in turn; may be empty.", _COUNTS
    )
    lines: list[int] = option(
        [1000, 10_000, 100_000, 1_000_000],
        "Rows of the pool where faiss and activeft take turns with ray_itl in one process; may be empty.",
        _COUNTS,
    )
    line_repeats: int = option(5, "Turns of each; medians are shown.", _COUNT)
    dim: int = option(384, "Of the synthetic rows; those of wordnet have 384.", _COUNT)
    num_targets: int = option(64, _TARGETS, _COUNT)
    n: int = option(100, _N, _COUNT)
    noise_variance: float = option(0.1, _NOISE, _ABOVE_ZERO)
    num_threads: int = option(0, "0: as many as this machine has cores.", _COUNT_OR_NONE)
    repeats: int = option(3, _IF_SHORT, _COUNT)
    time_limit_s: float = option(90.0, "For one selection.", _ABOVE_ZERO)
    memory_limit: str = option("12GiB", "For one process, its pool included.", size)
    only: list[str] = option([], "Names of peers; empty: all that are installed.")

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        require(bool(self.num_rows or self.lines), "peers.num_rows", self.num_rows, "peers.lines is empty, too")
        for name in ("num_rows", "lines"):
            enough = all(number > self.n for number in getattr(self, name))
            require(enough, f"peers.{name}", getattr(self, name), f"each has to be above peers.n={self.n}")


@dataclass
class NoiseSettings(Options, group="noise"):
    """What picks of many noises are, on data that have classes."""

    data: list[str] = option(["digits", "wordnet"], "What they select from.", _some_of(*NOISE_DATA))
    seeds: int = option(4, "Tasks of each data set, drawn by seed, seed + 1, and so on.", _COUNT)
    num_rows: int = option(20_000, "Rows of a data set, at most.", _COUNT)
    num_targets: list[int] = option([1, 48], "Targets, each in turn; a task of one is about its class.", _SOME_COUNTS)
    features: list[str] = option(
        list(NOISE_FEATURES),
        "Embeddings as they are; at norm 1; less the pool's mean, then at norm 1.",
        _some_of(*NOISE_FEATURES),
    )
    rules: list[str] = option(["itl", "vtl"], "Beside nearest and random.", _some_of("itl", "vtl"))
    relative_noise: list[float] = option(
        [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0],
        "acquisition.relative_noise.",
        Check("give numbers above 0", lambda value: len(value) > 0 and all(is_positive(number) for number in value)),
    )
    lengths: list[int] = option([25, 50, 100, 200, 400], "Picks at which selections are judged.", _SOME_COUNTS)


@dataclass
class BenchmarkSettings(Options):
    """Everything that `python -m benchmarks` takes."""

    suite: str = option(ALL, f"all: those but {', '.join(NOT_IN_ALL)}.", one_of(*SUITES, ALL))
    seed: int = option(0, "Of the data.", _COUNT_OR_NONE)
    dir: str = option("runs/benchmark", "Where data and tables go; data that is there already is used again.")
    engine: EngineSettings = field(default_factory=EngineSettings)
    large: LargeSettings = field(default_factory=LargeSettings)
    rounds: RoundsSettings = field(default_factory=RoundsSettings)
    convergence: ConvergenceSettings = field(default_factory=ConvergenceSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    shards: ShardsSettings = field(default_factory=ShardsSettings)
    gpu: GpuSettings = field(default_factory=GpuSettings)
    embedding: EmbeddingBenchmarkSettings = field(default_factory=EmbeddingBenchmarkSettings)
    queries: QueriesSettings = field(default_factory=QueriesSettings)
    features: FeaturesSettings = field(default_factory=FeaturesSettings)
    peers: PeersSettings = field(default_factory=PeersSettings)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    sift: SiftSettings = field(default_factory=SiftSettings)
    sift_copies: SiftCopiesSettings = field(default_factory=SiftCopiesSettings)
    gradients: GradientsSettings = field(default_factory=GradientsSettings)
    redundancy: RedundancySettings = field(default_factory=RedundancySettings)

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        super().__post_init__()
        most = max([self.scaling.n, *self.scaling.picks])
        allowed = f"{most} rows are to be picked (scaling.n, scaling.picks)"
        require(most <= self.scaling.num_rows, "scaling.num_rows", self.scaling.num_rows, allowed)
        if any(dim > self.scaling.wide for dim in self.scaling.dims):
            few, allowed = self.scaling.wide_rows, f"{self.scaling.n} rows are to be picked (scaling.n)"
            require(self.scaling.n <= few, "scaling.wide_rows", few, allowed)
