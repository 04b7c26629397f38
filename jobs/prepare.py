"""`ray-itl prepare` as a script, for `ray job submit --working-dir .` on nodes where the package is not installed."""

from ray_itl.cli.config import launch
from ray_itl.cli.prepare import main

if __name__ == "__main__":
    launch(main)
