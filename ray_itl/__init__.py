"""ray_itl: exact information-based transductive learning over massive pools, on Ray.

Importing this package never imports Ray; selecting with `num_shards=0` never does either.
"""

from ray_itl.api import select
from ray_itl.errors import (
    ConfigError,
    InputError,
    NumericalError,
    RayItlError,
    RunDirectoryError,
    ShardError,
)
from ray_itl.selection import Selection

__all__ = [
    "ConfigError",
    "InputError",
    "NumericalError",
    "RayItlError",
    "RunDirectoryError",
    "Selection",
    "ShardError",
    "select",
]
