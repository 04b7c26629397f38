"""Fine-tune a model in rounds on the rows that teach it most about a task."""

from ray_itl.cli.command import command
from ray_itl.experiments.job import run_experiment
from ray_itl.observability.reporter import Reporter
from ray_itl.rounds.settings import FineTuneJobSettings


@command("finetune", FineTuneJobSettings)
def main(settings: FineTuneJobSettings) -> None:
    """Compose, run, summarise."""
    reporter = Reporter(settings.run.log)
    reporter.finish(run_experiment(settings, reporter))
