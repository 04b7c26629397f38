"""Select the rows of a pool that are most informative about a target sample (see --help)."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from ray_itl.command import guarded, with_absolute_paths
from ray_itl.config import launch, register_schemas, to_settings, to_yaml
from ray_itl.curation import curate
from ray_itl.demo import digits_settings
from ray_itl.planning import planned
from ray_itl.progress import Reporter
from ray_itl.settings import CurationSettings
from ray_itl.summary import summarise
from ray_itl.ticks.tick import run_tick
from ray_itl.ticks.words import summarise_tick

register_schemas()


@hydra.main(version_base="1.3", config_path="../configs", config_name="curate")
@guarded
def main(config: DictConfig) -> None:
    """Compose, run (or only plan), summarise."""
    settings = with_absolute_paths(to_settings(config, CurationSettings))
    reporter = Reporter(settings.run.log)
    if settings.plan:
        reporter.conclude(planned(settings).ending())
        return
    if settings.pool.path is None:
        settings = digits_settings(settings, Path(settings.run.dir or settings.state.dir or "").parent / "digits-data")
    if settings.state.dir is None:
        ending = summarise(curate(settings, to_yaml(settings), reporter=reporter))
    else:
        ending = summarise_tick(run_tick(settings, reporter))
    reporter.conclude(ending)


if __name__ == "__main__":
    launch(main)
