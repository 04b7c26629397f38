"""Fine-tune a model in rounds on the rows that teach it most about a task."""

import hydra
from omegaconf import DictConfig

from ray_itl.cli.config import register_schemas, to_settings
from ray_itl.cli.config_path import config_path
from ray_itl.cli.guard import guarded
from ray_itl.experiments.job import run_experiment
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.settings import FineTuneJobSettings

register_schemas(finetune_schema=FineTuneJobSettings)


@hydra.main(version_base="1.3", config_path=config_path(), config_name="finetune")
@guarded
def main(config: DictConfig) -> None:
    """Compose, run, summarise."""
    settings = to_settings(config, FineTuneJobSettings)
    reporter = Reporter(settings.run.log)
    reporter.finish(run_experiment(settings, reporter))
