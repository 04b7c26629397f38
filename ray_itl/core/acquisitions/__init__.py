"""The sequential rules by name. Another one: a file here, a line below, its dense definition in core/reference.py.

base (the contract), information_gain (ITL), variance_reduction (VTL, SIFT), uncertainty (undirected).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_itl.errors import ConfigError
from ray_itl.extras import load_by_name

if TYPE_CHECKING:
    from ray_itl.core.acquisitions.base import Acquisition

RULES: dict[str, str] = {
    "itl": "ray_itl.core.acquisitions.information_gain:InformationGain",
    "vtl": "ray_itl.core.acquisitions.variance_reduction:VarianceReduction",
    "uncertainty": "ray_itl.core.acquisitions.uncertainty:Uncertainty",
}
"""Name -> "module:Class". Options know the names without loading torch."""


def load_rule(name: str) -> type[Acquisition]:
    """Return the class of a rule.

    Args:
        name: A key of `RULES`, or "module:Class" for one of the user's own.

    Raises:
        ConfigError: there is none, it cannot be imported, or it is no rule; names acquisition.name.
    """
    from ray_itl.core.acquisitions.base import Acquisition  # not sooner: it loads torch

    rule = load_by_name(name, RULES, "acquisition.name", "module:Class")
    if not (isinstance(rule, type) and issubclass(rule, Acquisition)):
        raise ConfigError(
            f"acquisition.name={name!r} is not a rule: name a subclass of ray_itl.core.acquisitions.base.Acquisition"
        )
    return rule
