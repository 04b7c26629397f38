"""What decides the result of an active fine-tuning: a run directory may only be continued when none of it changed."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from ray_itl.errors import InputError
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.tuning_data import TuningData

_DECISIVE = (
    "model",
    "embedding",
    "acquisition",
    "candidates",
    "labels",
    "rounds",
    "training",
)
_OF_DATA = ("id_column", "raw_column", "label_column", "classes", "others")


def tuning_identity(data: TuningData, settings: FineTuneSettings) -> dict[str, str]:
    """Return name -> digest or value of everything that decides picks and weights; who trains and where does not."""
    options = asdict(settings)
    values = {f"{group}.{name}": repr(value) for group in _DECISIVE for name, value in options[group].items()}
    values |= {f"data.{name}": repr(options["data"][name]) for name in _OF_DATA}
    # More rounds continue a run: the rounds done stay what they are.
    del values["rounds.count"]
    return {**data.fingerprints(), "contents of model.checkpoint": _contents(settings.model.checkpoint), **values}


def _contents(path: str | None) -> str:
    if path is None:
        return ""
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"model.checkpoint={path} cannot be read ({error}): give a safetensors file") from error
