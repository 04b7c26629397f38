"""Check a finished selection against the dense definition."""

import sys

import hydra
from omegaconf import DictConfig

from ray_itl.cli.config import register_schemas, to_settings
from ray_itl.cli.config_path import config_path
from ray_itl.cli.guard import guarded
from ray_itl.observability.reporter import Reporter
from ray_itl.verification.settings import VerifySettings
from ray_itl.verification.verify import verify

register_schemas(verify_schema=VerifySettings)


@hydra.main(version_base="1.3", config_path=config_path(), config_name="verify")
@guarded
def main(config: DictConfig) -> None:
    """Compose, check, say what was found."""
    settings = to_settings(config, VerifySettings)
    verification = verify(settings)
    Reporter(settings.run.log).finish(verification.summary())
    if not verification.right:
        sys.exit(1)
