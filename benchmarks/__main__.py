"""Measure ray_itl on this machine, alone and beside its peers, and write a table: `python -m benchmarks suite=NAME`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from benchmarks.comparison import run_comparison
from benchmarks.comparison_report import comparison_tables, render_comparison
from benchmarks.convergence import convergence_table, render_convergence, run_convergence
from benchmarks.embedding import embedding_table, run_embedding
from benchmarks.engine import engine_table, run_engine
from benchmarks.features import features_table, run_features
from benchmarks.gpu import gpu_table, run_gpu
from benchmarks.lines import lines_tables, run_lines
from benchmarks.machine import describe
from benchmarks.many_shards import run_shards, shards_table
from benchmarks.noise import run_noise
from benchmarks.noise_report import noise_tables, render_noise
from benchmarks.queries import queries_table, run_queries
from benchmarks.rounds import rounds_table, run_rounds
from benchmarks.scaling import render_scaling, run_scaling, scaling_table
from benchmarks.settings import ALL, NOT_IN_ALL, BenchmarkSettings
from benchmarks.value.gradients import run_gradients
from benchmarks.value.redundancy import redundancy_tables, render_redundancy, run_redundancy
from benchmarks.value.sift import run_sift
from benchmarks.value.sift_report import render_sift, sift_scores, sift_tables
from benchmarks.whole_runs import disk_table, large_table, run_disk, run_large
from ray_itl.cli.config import launch, register_schemas, to_settings
from ray_itl.cli.guard import guarded
from ray_itl.io.atomic import write_atomic

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Suite:
    """How a suite is run, and how what it found is shown."""

    run: Callable[[Any, int, Path, Notify], Any]
    """Of its options, a seed, the folder for data and tables, and where to say how it goes."""
    table: Callable[[Any, Any], str]
    """What it found and its options, as Markdown."""
    page: Callable[[Any, Any, str], str | None] | None = None
    """The same with the words for the machine, as a page of charts; None where there is nothing to draw."""
    scores: Callable[[Any], str] | None = None
    """What it found one by one, as CSV, for who wants to compare anew."""


SUITES = {
    "engine": Suite(run_engine, engine_table),
    "large": Suite(run_large, large_table),
    "disk": Suite(run_disk, disk_table),
    "rounds": Suite(run_rounds, rounds_table),
    "convergence": Suite(
        lambda own, _, __, notify: run_convergence(own, notify),
        convergence_table,
        lambda found, _, machine: render_convergence(found, machine),
    ),
    "scaling": Suite(run_scaling, scaling_table, render_scaling),
    "shards": Suite(run_shards, shards_table),
    "gpu": Suite(lambda own, seed, _, notify: run_gpu(own, seed, notify), gpu_table),
    "embedding": Suite(run_embedding, embedding_table),
    "queries": Suite(run_queries, queries_table),
    "features": Suite(run_features, features_table),
    "noise": Suite(run_noise, noise_tables, render_noise),
    "peers": Suite(
        lambda *given: (run_lines(*given), run_comparison(*given)),
        lambda found, own: "\n\n".join(
            table(each, own) for table, each in zip((lines_tables, comparison_tables), found, strict=True) if each
        ),
        lambda found, own, machine: render_comparison(found[1], own, machine) if found[1] else None,
    ),
    "sift": Suite(run_sift, sift_tables, render_sift, sift_scores),
    "sift_copies": Suite(run_sift, sift_tables, render_sift, sift_scores),
    "gradients": Suite(run_gradients, sift_tables, render_sift, sift_scores),
    "redundancy": Suite(run_redundancy, redundancy_tables, render_redundancy),
}


def run_suite(name: str, settings: BenchmarkSettings, folder: Path, notify: Notify) -> str:
    """Run one suite; returns its tables as Markdown, and writes its page and its scores into the folder."""
    suite, own = SUITES[name], getattr(settings, name)
    found = suite.run(own, settings.seed, folder, notify)
    page = None if suite.page is None else suite.page(found, own, describe())
    if page is not None:
        write_atomic(folder / f"{name}.html", page.encode())
    if suite.scores is not None:
        write_atomic(folder / f"{name}.csv", suite.scores(found).encode())
    return suite.table(found, own)


def run_suites(settings: BenchmarkSettings, folder: Path, notify: Notify) -> str:
    """Run the suite that is asked for, or all but those of NOT_IN_ALL; returns the machine and the tables as Markdown.

    Raises:
        RayItlError: one of them failed; what came before it is lost.
    """
    chosen = [name for name in SUITES if name not in NOT_IN_ALL] if settings.suite == ALL else [settings.suite]
    return (
        "\n\n".join([f"Machine: {describe()}", *(run_suite(name, settings, folder, notify) for name in chosen)]) + "\n"
    )


def _notify(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@hydra.main(version_base="1.3", config_path=".", config_name="config")
@guarded
def main(config: DictConfig) -> None:
    """Run the suites, write the table, print it."""
    settings = to_settings(config, BenchmarkSettings)
    folder = Path(settings.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    text, path = run_suites(settings, folder, _notify), folder / f"{settings.suite}.md"
    write_atomic(path, text.encode())
    sys.stdout.write(f"{text}\nwritten to {path}\n")


if __name__ == "__main__":
    register_schemas(benchmark_schema=BenchmarkSettings)
    launch(main)
