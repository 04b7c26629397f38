"""The edge to Hydra: typed schemas of the jobs' configurations. No DictConfig passes below this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ray_itl.errors import ConfigError
from ray_itl.settings import CurationSettings, VerifySettings

SettingsT = TypeVar("SettingsT")


def register_schemas(**further: type) -> None:
    """Make the schemas known to Hydra under the names that the YAML files in configs/ build on.

    `further` are the schemas of jobs above this layer, by name.
    """
    store = ConfigStore.instance()
    for name, schema in {"curate_schema": CurationSettings, "verify_schema": VerifySettings, **further}.items():
        node = OmegaConf.structured(schema)
        _open_mappings(node)
        store.store(name=name, node=node)


def _open_mappings(node: DictConfig) -> None:
    """Let the command line set new keys of options that are plain mappings (model.options={hidden: [64]}).

    Hydra forbids keys that the YAML does not have, which is right for options of ours and wrong for those of a model.
    """
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig):
            if OmegaConf.get_type(child) is dict:
                OmegaConf.set_struct(child, False)
            else:
                _open_mappings(child)


def to_settings(config: DictConfig, schema: type[SettingsT]) -> SettingsT:
    """Turn a composed configuration into checked settings.

    Raises:
        ConfigError: a value of the wrong type or out of range (names the option).
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), config)
        return cast(SettingsT, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"{getattr(error, 'full_key', None) or 'options'}: {error}") from error


def with_overrides(settings: SettingsT, overrides: Mapping[str, Any]) -> SettingsT:
    """Return a copy of settings with some options, named like "acquisition.name", replaced and checked.

    Raises:
        ConfigError: an option that there is not, or a value of the wrong type or out of range.
    """
    schema = type(settings)
    config = OmegaConf.structured(settings)
    try:
        for option, value in overrides.items():
            OmegaConf.update(config, option, value)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {error.msg}") from error
    return to_settings(config, schema)


def from_yaml(text: str, schema: type[SettingsT]) -> SettingsT:
    """Return checked settings from what `to_yaml` wrote; ConfigError where the text is something else."""
    try:
        config = OmegaConf.create(text)
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"the options cannot be read: {error}") from error
    if not isinstance(config, DictConfig):
        raise ConfigError("the options cannot be read: they are a list")
    return to_settings(config, schema)


def to_yaml(settings: Any) -> str:
    """Return settings as YAML that `--config-dir` and `--config-name` can replay."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))
