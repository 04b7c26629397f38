"""Turn a raw pool (texts, images, numbers) into a pool with embeddings."""

import hydra
from omegaconf import DictConfig

from ray_itl.cli.config import register_schemas, to_settings
from ray_itl.cli.config_path import config_path
from ray_itl.cli.guard import guarded
from ray_itl.embedding.job import embed_pool, with_absolute_paths
from ray_itl.embedding.planning import planned_embedding
from ray_itl.embedding.settings import EmbedJobSettings
from ray_itl.observability.reporter import Reporter

register_schemas(embed_schema=EmbedJobSettings)


@hydra.main(version_base="1.3", config_path=config_path(), config_name="embed")
@guarded
def main(config: DictConfig) -> None:
    """Compose, embed (or only plan), summarise."""
    settings = with_absolute_paths(to_settings(config, EmbedJobSettings))
    reporter = Reporter(settings.run.log)
    if settings.plan:
        reporter.finish(planned_embedding(settings, reporter).summary())
        return
    reporter.finish(embed_pool(settings, reporter).summary())
