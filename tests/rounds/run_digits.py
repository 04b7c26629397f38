"""Run the digits' fine-tuning in a process of its own: run_digits.py DATA_FOLDER RUN_DIRECTORY [FATAL_FILE].

It kills itself at the first file that it opens once the fatal one is there.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from ray_itl.rounds.group_settings import DataSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from tests.rounds.helpers import CLASSES, digits_settings


def die_once_there_is(path: str) -> None:
    def hook(event: str, _: object) -> None:
        if event == "open" and os.path.exists(path):  # noqa: PTH110 - which opens nothing
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, run, *fatal = map(Path, sys.argv[1:])
    for path in fatal:
        die_once_there_is(str(path))
    paths = (str(folder / f"{name}.parquet") for name in ("pool", "target", "heldout"))
    data = DataSettings(*paths, raw_column="image", classes=CLASSES)
    ActiveFineTuner(digits_settings(data, run)).run()
