"""Run the digits' fine-tuning in a process of its own, to be killed: run_digits.py DATA_FOLDER RUN_DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ray_itl.rounds.settings import DataSettings
from ray_itl.rounds.tuner import ActiveFineTuner
from tests.rounds.helpers import CLASSES, digits_settings

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, run = map(Path, sys.argv[1:])
    paths = (str(folder / f"{name}.parquet") for name in ("pool", "target", "heldout"))
    data = DataSettings(*paths, raw_column="image", classes=CLASSES)
    ActiveFineTuner(digits_settings(data, run)).run()
