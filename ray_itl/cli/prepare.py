"""Fetch and prepare the data and models of the experiments."""

import sys
import time

from ray_itl.cli.command import command
from ray_itl.experiments.cache import cache_root
from ray_itl.experiments.preparation import PREPARATIONS, PrepareSettings


@command("prepare", PrepareSettings)
def main(settings: PrepareSettings) -> None:
    """Compose, prepare, say where."""
    cache = cache_root(settings.cache)
    for name in settings.names():
        began = time.perf_counter()
        path = PREPARATIONS[name](cache, lambda line: sys.stderr.write(line + "\n"))
        sys.stdout.write(f"{name}: {path} ({time.perf_counter() - began:.1f} s)\n")
        sys.stdout.flush()
