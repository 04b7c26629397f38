"""Turn a raw pool (texts, images, numbers) into a pool with embeddings."""

from ray_itl.cli.command import command
from ray_itl.embedding.job import embed_pool, with_absolute_paths
from ray_itl.embedding.planning import planned_embedding
from ray_itl.embedding.settings import EmbedJobSettings
from ray_itl.observability.reporter import Reporter


@command("embed", EmbedJobSettings)
def main(settings: EmbedJobSettings) -> None:
    """Compose, embed (or only plan), summarise."""
    settings = with_absolute_paths(settings)
    reporter = Reporter(settings.run.log)
    if settings.plan:
        reporter.finish(planned_embedding(settings, reporter).summary())
        return
    reporter.finish(embed_pool(settings, reporter).summary())
