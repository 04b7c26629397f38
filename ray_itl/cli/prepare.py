"""Fetch and prepare the data and models of the experiments."""

import sys
import time

import hydra
from omegaconf import DictConfig

from ray_itl.cli.config import register_schemas, to_settings
from ray_itl.cli.config_path import config_path
from ray_itl.cli.guard import guarded
from ray_itl.experiments.cache import cache_root
from ray_itl.experiments.preparation import PREPARATIONS, PrepareSettings

register_schemas(prepare_schema=PrepareSettings)


@hydra.main(version_base="1.3", config_path=config_path(), config_name="prepare")
@guarded
def main(config: DictConfig) -> None:
    """Compose, prepare, say where."""
    settings = to_settings(config, PrepareSettings)
    cache = cache_root(settings.cache)
    for name in settings.names():
        began = time.perf_counter()
        path = PREPARATIONS[name](cache, lambda line: sys.stderr.write(line + "\n"))
        sys.stdout.write(f"{name}: {path} ({time.perf_counter() - began:.1f} s)\n")
        sys.stdout.flush()
