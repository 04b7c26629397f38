"""Options of `jobs/benchmark.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_itl.errors import ConfigError

SUITES = ("engine", "large", "disk", "rounds", "convergence", "all")


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
class BenchmarkSettings:
    """Everything that `jobs/benchmark.py` takes."""

    suite: str = "all"
    """engine, large, disk, rounds, convergence or all."""
    seed: int = 0
    dir: str = "runs/benchmark"
    """Where data and tables go; data that is there already is used again."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    large: LargeSettings = field(default_factory=LargeSettings)
    rounds: RoundsSettings = field(default_factory=RoundsSettings)
    convergence: ConvergenceSettings = field(default_factory=ConvergenceSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if self.suite not in SUITES:
            raise ConfigError(f"suite={self.suite!r} cannot be used: use one of {', '.join(SUITES)}")
        if not self.disk.times_memory > 0:
            raise ConfigError(f"disk.times_memory={self.disk.times_memory} cannot be used: give a number above 0")
        if self.disk.num_shards not in (0, 1):
            raise ConfigError(f"disk.num_shards={self.disk.num_shards} cannot be used: give 0 or 1")
        for part in ("engine", "large", "disk", "rounds", "convergence"):
            for option, value in vars(getattr(self, part)).items():
                if isinstance(value, int) and value < (0 if option == "num_shards" else 1):
                    raise ConfigError(f"{part}.{option}={value} cannot be used: give a whole number of at least 1")
