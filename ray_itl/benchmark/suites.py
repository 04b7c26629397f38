"""The suites by name: each measures and returns its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ray_itl.benchmark.comparison import run_comparison
from ray_itl.benchmark.comparison_page import write_comparison_page
from ray_itl.benchmark.comparison_table import comparison_tables
from ray_itl.benchmark.convergence import convergence_table, run_convergence
from ray_itl.benchmark.disk import disk_table, run_disk
from ray_itl.benchmark.engine import engine_table, run_engine
from ray_itl.benchmark.large import large_table, run_large
from ray_itl.benchmark.machine import describe
from ray_itl.benchmark.rounds import rounds_table, run_rounds
from ray_itl.benchmark.scaling import run_scaling
from ray_itl.benchmark.scaling_table import scaling_table, write_scaling_page
from ray_itl.benchmark.settings import ALL, BenchmarkSettings

Say = Callable[[str], None]
Suite = Callable[[BenchmarkSettings, Path, Say], str]


def _engine(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    return engine_table(run_engine(settings.engine, settings.seed, folder, say), settings.engine)


def _large(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    return large_table(run_large(settings.large, settings.seed, folder, say), settings.large)


def _disk(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    return disk_table(run_disk(settings.disk, settings.seed, folder, say), settings.disk)


def _rounds(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    return rounds_table(run_rounds(settings.rounds, settings.seed, folder, say), settings.rounds)


def _convergence(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    return convergence_table(run_convergence(settings.convergence, folder, say), settings.convergence)


def _scaling(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    points = run_scaling(settings.scaling, settings.seed, folder, say)
    write_scaling_page(points, settings.scaling, describe(), folder / "scaling.html")
    return scaling_table(points, settings.scaling)


def _peers(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    comparisons = run_comparison(settings.peers, settings.seed, folder, say)
    write_comparison_page(comparisons, settings.peers, describe(), folder / "peers.html")
    return comparison_tables(comparisons, settings.peers)


SUITES: dict[str, Suite] = {
    "engine": _engine,
    "large": _large,
    "disk": _disk,
    "rounds": _rounds,
    "convergence": _convergence,
    "scaling": _scaling,
    "peers": _peers,
}


def run_suites(settings: BenchmarkSettings, folder: Path, say: Say) -> str:
    """Run the suite that is asked for, or all but peers; returns the machine and the tables as Markdown.

    Raises:
        RayItlError: one of them failed; what came before it is lost.
    """
    chosen = [name for name in SUITES if name != "peers"] if settings.suite == ALL else [settings.suite]
    return "\n\n".join([f"Machine: {describe()}", *(SUITES[name](settings, folder, say) for name in chosen)]) + "\n"
