"""What makes a function of checked settings the main of a command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

import hydra
from omegaconf import DictConfig

from ray_itl.cli.config import register_schemas, to_settings
from ray_itl.cli.config_path import config_path
from ray_itl.cli.guard import guarded

SettingsT = TypeVar("SettingsT")


def command(name: str, schema: type[SettingsT]) -> Callable[[Callable[[SettingsT], None]], Callable[..., None]]:
    """Make a function the main of `ray-itl NAME`: options, of configs/NAME.yaml and the command line, are handed over.

    Errors that it raises end the process as `guarded` says.
    """
    register_schemas(**{f"{name}_schema": schema})

    def main_of(run: Callable[[SettingsT], None]) -> Callable[..., None]:
        @functools.wraps(run)
        def main(config: DictConfig) -> None:
            run(to_settings(config, schema))

        composed = hydra.main(version_base="1.3", config_path=config_path(), config_name=name)
        return cast(Callable[..., None], composed(guarded(main)))

    return main_of
