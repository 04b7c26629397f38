"""Check a finished selection against the dense definition."""

import sys

from ray_itl.cli.command import command
from ray_itl.observability.reporter import Reporter
from ray_itl.verification.settings import VerifySettings
from ray_itl.verification.verify import verify


@command("verify", VerifySettings)
def main(settings: VerifySettings) -> None:
    """Compose, check, say what was found."""
    verification = verify(settings)
    Reporter(settings.run.log).finish(verification.summary())
    if not verification.right:
        sys.exit(1)
