"""Select the rows of a pool that are most informative about a target sample."""

from pathlib import Path

from ray_itl.cli.command import command
from ray_itl.curation.demo import digits_settings
from ray_itl.curation.machine_settings import machines_of
from ray_itl.curation.planning import planned
from ray_itl.curation.planning_elsewhere import planned_elsewhere
from ray_itl.curation.run import curate
from ray_itl.curation.settings import CurationSettings, with_absolute_paths
from ray_itl.curation.summary import summarise
from ray_itl.errors import ConfigError
from ray_itl.observability.reporter import Reporter
from ray_itl.queries.run import select_queries
from ray_itl.queries.summary import plan_queries, summarise_queries
from ray_itl.ticks.tick import run_tick, summarise_tick


@command("curate", CurationSettings)
def main(settings: CurationSettings) -> None:
    """Compose, run (or only plan), summarise."""
    settings = with_absolute_paths(settings)
    reporter = Reporter(settings.run.log)
    for_queries = settings.target.query_column is not None
    if settings.plan:
        machines = machines_of(settings.plan)
        if for_queries:
            if machines is not None:
                raise ConfigError("plan.nodes cannot be used with target.query_column: give plan=true")
            plan = plan_queries(settings)
        else:
            plan = planned(settings) if machines is None else planned_elsewhere(settings, machines)
        reporter.finish(plan.summary())
        return
    if for_queries:
        reporter.finish(summarise_queries(select_queries(settings, reporter=reporter)))
        return
    if settings.pool.path is None:
        settings = digits_settings(settings, Path(settings.run.dir or settings.state.dir or "").parent / "digits-data")
    if settings.state.dir is None:
        summary = summarise(curate(settings, reporter=reporter))
    else:
        summary = summarise_tick(run_tick(settings, reporter))
    reporter.finish(summary)
