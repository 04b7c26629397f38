"""Turn a raw pool (texts, images, numbers) into a pool with embeddings (see --help)."""

import sys

import hydra
from omegaconf import DictConfig

from ray_itl.command import guarded
from ray_itl.config import launch, register_schemas, to_settings, to_yaml
from ray_itl.embedding.job import embed_pool, with_absolute_paths
from ray_itl.embedding.settings import EmbedSettings

register_schemas(embed_schema=EmbedSettings)


@hydra.main(version_base="1.3", config_path="../configs", config_name="embed")
@guarded
def main(config: DictConfig) -> None:
    """Compose, embed, summarise."""
    settings = with_absolute_paths(to_settings(config, EmbedSettings))
    sys.stdout.write(embed_pool(settings, to_yaml(settings)).summary() + "\n")


if __name__ == "__main__":
    launch(main)
