"""ray_itl: exact information-based transductive learning over massive pools, on Ray.

Importing this package never imports Ray; selecting with `num_shards=0` never does either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_itl.api import select
    from ray_itl.errors import (
        ConfigError,
        InputError,
        MissingExtraError,
        NumericalError,
        RayItlError,
        RunDirectoryError,
        ShardError,
    )
    from ray_itl.loaded.pool import LoadedPool, open_pool
    from ray_itl.rounds.settings import FineTuneSettings
    from ray_itl.rounds.tuned_model import TunedModel, load_model
    from ray_itl.rounds.tuner import ActiveFineTuner
    from ray_itl.selection import Selection


__all__ = [
    "ActiveFineTuner",
    "ConfigError",
    "FineTuneSettings",
    "InputError",
    "LoadedPool",
    "MissingExtraError",
    "NumericalError",
    "RayItlError",
    "RunDirectoryError",
    "Selection",
    "ShardError",
    "TunedModel",
    "load_model",
    "open_pool",
    "select",
]

_HOMES = {
    "ActiveFineTuner": "ray_itl.rounds.tuner",
    "FineTuneSettings": "ray_itl.rounds.settings",
    "LoadedPool": "ray_itl.loaded.pool",
    "Selection": "ray_itl.selection",
    "TunedModel": "ray_itl.rounds.tuned_model",
    "load_model": "ray_itl.rounds.tuned_model",
    "open_pool": "ray_itl.loaded.pool",
    "select": "ray_itl.api",
}


def __getattr__(name: str) -> Any:
    """Load a name on first use: the process of a shard needs neither the API nor the options."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "ray_itl.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what is loaded and what can be, for completion in notebooks."""
    return sorted({*globals(), *__all__})
