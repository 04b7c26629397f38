"""Measure ray_itl on this machine, alone and beside its peers, and write a table (see --help)."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from ray_itl.benchmark.settings import BenchmarkSettings
from ray_itl.benchmark.suites import run_suites
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
    text, path = run_suites(settings, folder, _say), folder / f"{settings.suite}.md"
    write_atomic(path, text.encode())
    sys.stdout.write(f"{text}\nwritten to {path}\n")


if __name__ == "__main__":
    launch(main)
