"""Measure the engine, large runs, rounds and convergence on this machine, and write a table (see --help)."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from ray_itl.benchmark.convergence import convergence_table, run_convergence
from ray_itl.benchmark.disk import disk_table, run_disk
from ray_itl.benchmark.engine import engine_table, run_engine
from ray_itl.benchmark.large import large_table, run_large
from ray_itl.benchmark.machine import describe
from ray_itl.benchmark.rounds import rounds_table, run_rounds
from ray_itl.benchmark.settings import BenchmarkSettings
from ray_itl.command import guarded
from ray_itl.config import launch, register_schemas, to_settings
from ray_itl.io.atomic import write_atomic

register_schemas(benchmark_schema=BenchmarkSettings)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@hydra.main(version_base="1.3", config_path="../configs", config_name="benchmark")
@guarded
def main(config: DictConfig) -> None:
    """Run the suites, write the table, print it."""
    settings = to_settings(config, BenchmarkSettings)
    folder = Path(settings.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    tables = [f"Machine: {describe()}"]
    if settings.suite in ("engine", "all"):
        tables.append(engine_table(run_engine(settings.engine, settings.seed, folder, _say), settings.engine))
    if settings.suite in ("large", "all"):
        tables.append(large_table(run_large(settings.large, settings.seed, folder, _say), settings.large))
    if settings.suite in ("disk", "all"):
        tables.append(disk_table(run_disk(settings.disk, settings.seed, folder, _say), settings.disk))
    if settings.suite in ("rounds", "all"):
        tables.append(rounds_table(run_rounds(settings.rounds, settings.seed, folder, _say), settings.rounds))
    if settings.suite in ("convergence", "all"):
        convergence = run_convergence(settings.convergence, folder, _say)
        tables.append(convergence_table(convergence, settings.convergence))
    path = folder / f"{settings.suite}.md"
    text = "\n\n".join(tables) + "\n"
    write_atomic(path, text.encode())
    sys.stdout.write(f"{text}\nwritten to {path}\n")


if __name__ == "__main__":
    launch(main)
