"""Options of `python -m benchmarks`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_itl.errors import ConfigError
from ray_itl.text import parse_size

SUITES = ("engine", "large", "disk", "rounds", "convergence", "scaling", "peers")
ALL = "all"
"""All suites but peers, which needs further packages and data."""
PEER_DATA = ("wordnet", "synthetic")


@dataclass
class EngineSettings:
    """The engine on a pool in memory."""

    num_rows: int = 1_000_000
    dim: int = 384
    num_targets: int = 64
    n: int = 100
    noise_variances: list[float] = field(default_factory=lambda: [1.0, 0.05])
    repeats: int = 3
    num_shards: int = 2
    """Ray shards to compare with this process; 0: none."""


@dataclass
class LargeSettings:
    """A whole run of jobs/curate.py from Parquet."""

    num_rows: int = 10_000_000
    dim: int = 128
    num_targets: int = 64
    n: int = 100
    noise_variance: float = 1.0
    num_shards: str = "auto"


@dataclass
class DiskSettings:
    """A pool that is larger than a shard's memory limit."""

    num_rows: int = 2_000_000
    dim: int = 384
    dtype: str = "float32"
    times_memory: float = 4.0
    """Bytes of features to the limit."""
    num_targets: int = 64
    n: int = 100
    noise_variance: float = 1.0
    num_shards: int = 1
    """1: a Ray shard; 0: in the job's own process, whose driver then counts towards the limit."""


@dataclass
class RoundsSettings:
    """Rounds of fine-tuning on digits, by every trainer."""

    count: int = 4
    batch: int = 5
    repeats: int = 3


@dataclass
class ConvergenceSettings:
    """Repeated picks from a small pool of digits."""

    num_rows: int = 40
    num_targets: int = 30
    n: int = 4000
    noise_variance: float = 0.1


@dataclass
class ScalingSettings:
    """One thing varied at a time around a base; an empty list skips it."""

    num_rows: int = 50_000
    dim: int = 256
    num_targets: int = 64
    n: int = 100
    noise_variance: float = 1.0
    repeats: int = 3
    """Of selections that take less than ten seconds."""
    local_shards: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    """Shards in this process."""
    ray_shards: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    """Ray shards on this machine."""
    nodes: list[int] = field(default_factory=lambda: [1, 2, 3])
    """Nodes of a cluster that is simulated on this machine, with two shards each."""
    dims: list[int] = field(default_factory=lambda: [64, 256, 1024, 4096])
    picks: list[int] = field(default_factory=lambda: [10, 100, 1000, 10_000])
    targets: list[int] = field(default_factory=lambda: [1, 100, 10_000, 100_000])


@dataclass
class PeersSettings:
    """ray_itl beside other packages on the same data."""

    data: list[str] = field(default_factory=lambda: list(PEER_DATA))
    num_rows: list[int] = field(default_factory=lambda: [1000, 10_000, 100_000, 1_000_000])
    dim: int = 384
    """Of the synthetic rows; those of wordnet have 384."""
    num_targets: int = 64
    n: int = 100
    noise_variance: float = 0.1
    num_threads: int = 0
    """0: as many as this machine has cores."""
    repeats: int = 3
    """Of selections that take less than ten seconds."""
    time_limit_s: float = 90.0
    """For one selection."""
    memory_limit: str = "12GiB"
    """For one process, its pool included."""
    only: list[str] = field(default_factory=list)
    """Names of peers; empty: all that are installed."""


@dataclass
class BenchmarkSettings:
    """Everything that `python -m benchmarks` takes."""

    suite: str = ALL
    """One of SUITES, or all."""
    seed: int = 0
    dir: str = "runs/benchmark"
    """Where data and tables go; data that is there already is used again."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    large: LargeSettings = field(default_factory=LargeSettings)
    rounds: RoundsSettings = field(default_factory=RoundsSettings)
    convergence: ConvergenceSettings = field(default_factory=ConvergenceSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    peers: PeersSettings = field(default_factory=PeersSettings)

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if self.suite not in (*SUITES, ALL):
            raise ConfigError(f"suite={self.suite!r} cannot be used: use one of {', '.join(SUITES)} or {ALL}")
        if not self.disk.times_memory > 0:
            raise ConfigError(f"disk.times_memory={self.disk.times_memory} cannot be used: give a number above 0")
        if self.disk.num_shards not in (0, 1):
            raise ConfigError(f"disk.num_shards={self.disk.num_shards} cannot be used: give 0 or 1")
        for part in SUITES:
            for option, value in vars(getattr(self, part)).items():
                least = 0 if option in ("num_shards", "num_threads") else 1
                for number in value if isinstance(value, list) else [value]:
                    if isinstance(number, int) and number < least:
                        allowed = f"give whole numbers of at least {least}"
                        raise ConfigError(f"{part}.{option}={value} cannot be used: {allowed}")
        self._check_scaling()
        self._check_peers()

    def _check_scaling(self) -> None:
        most = max([self.scaling.n, *self.scaling.picks])
        if most > self.scaling.num_rows:
            raise ConfigError(
                f"scaling.num_rows={self.scaling.num_rows} cannot be used: {most} rows are to be picked (scaling.n, "
                "scaling.picks)"
            )

    def _check_peers(self) -> None:
        peers = self.peers
        if not peers.data or not set(peers.data) <= set(PEER_DATA):
            raise ConfigError(f"peers.data={peers.data} cannot be used: choose from {', '.join(PEER_DATA)}")
        if not peers.num_rows or min(peers.num_rows) <= peers.n:
            raise ConfigError(f"peers.num_rows={peers.num_rows} cannot be used: each has to be above peers.n={peers.n}")
        for option in ("noise_variance", "time_limit_s"):
            if not getattr(peers, option) > 0:
                raise ConfigError(f"peers.{option}={getattr(peers, option)} cannot be used: give a number above 0")
        parse_size("peers.memory_limit", peers.memory_limit)
