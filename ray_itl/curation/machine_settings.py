"""Machines that a run is planned for, though they are not at hand: plan.nodes and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.options.checks import Check, is_whole, size, whole
from ray_itl.options.declare import Options, option
from ray_itl.options.text import from_mapping


@dataclass
class MachineSettings(Options, group="plan"):
    """Machines of one kind."""

    nodes: int = option(1, "How many.", whole(1))
    cpus: int | None = option(None, "CPUs of each.", whole(1))
    memory: str | None = option(None, "Memory of each.", size)
    gpus: int = option(0, "GPUs of each.", whole(0))
    gpu_memory: str = option("80GiB", "Memory of each GPU.", size)
    disk: str | None = option(None, "Free disk of each. null: not known.", size)
    rows: int | None = option(
        None,
        "As if the pool had so many rows. null: as many as it has.",
        Check("give a whole number, or null", lambda value: is_whole(value, 1)),
    )

    def __post_init__(self) -> None:
        """Raise ConfigError naming what is missing of a machine."""
        super().__post_init__()
        for name, what in (("cpus", "32"), ("memory", "256GiB")):
            if getattr(self, name) is None:
                raise ConfigError(f"plan.{name} is not set: say what each machine has, like plan.{name}={what}")


def read_plan(value: Any) -> Any:
    """Return a value of the option plan: texts of true and false as such, and what it says of machines checked.

    Raises:
        ConfigError: what is said of machines cannot be used (names the option).
    """
    if isinstance(value, Mapping):
        value = dict(value)
        machines_of(value)
    return {"true": True, "false": False}.get(str(value).lower(), value)


def machines_of(value: Any) -> MachineSettings | None:
    """Return the machines that a value of the option plan describes; None for a mere switch."""
    if not isinstance(value, Mapping):
        return None
    try:
        return from_mapping(value, MachineSettings)
    except ConfigError as error:
        raise ConfigError(str(error).replace("no option ", "no option plan.", 1)) from error


def is_plan(value: Any) -> bool:
    """Whether a value of the option plan is a switch, or says what machines there are."""
    return isinstance(value, bool | dict)
