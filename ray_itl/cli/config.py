"""The edge to Hydra: typed schemas of the jobs' configurations. No DictConfig passes below this module."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NoReturn, TypeVar, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ray_itl.cli.guard import end_with
from ray_itl.cli.hydra_words import in_words, no_option, readable_by_hydra, unreadable
from ray_itl.errors import ConfigError
from ray_itl.io.credentials import REMEDY, holds_credentials
from ray_itl.runs.command import command_line

SettingsT = TypeVar("SettingsT")


def register_schemas(**schemas: type) -> None:
    """Make the schemas known to Hydra under the names that the YAML files in configs/ build on.

    From then on options take no environment variables.
    """
    OmegaConf.register_new_resolver("oc.env", _refuse_variable, replace=True)
    OmegaConf.register_new_resolver("command", command_line, replace=True)  # for the texts of --help
    store = ConfigStore.instance()
    for name, schema in schemas.items():
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


def _refuse_variable(name: str, *_: Any) -> NoReturn:
    raise ConfigError(
        f"options cannot take the environment variable {name}, since their values are written to config.yaml: where it "
        "is no secret let the shell put it in"
    )


def launch(main: Callable[[], None]) -> None:
    """Run a job's Hydra main; options that Hydra refuses end it with exit code 2 and one line, as all bad ones do.

    The job itself is `guarded`: nothing that it raises comes here, so what does is Hydra's trouble with the options.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it raises then, and does not print and exit with 1
    sys.argv[1:] = [readable_by_hydra(argument) for argument in sys.argv[1:]]
    in_json = "run.log=json" in sys.argv  # there are no composed options to ask
    try:
        main()
    except OverrideParseException as error:
        end_with(2, ConfigError(unreadable(str(error.override), str(error))), in_json)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error.__context__
        words = in_words(f"{error}\n{cause if isinstance(cause, OmegaConfBaseException) else ''}", _known_options(main))
        end_with(2, cause if isinstance(cause, ConfigError) else ConfigError(words), in_json)
    except Exception as error:  # some words make Hydra fail
        why = f"Hydra cannot make sense of the options ({type(error).__name__}: {error}): check them"
        end_with(2, ConfigError(why), in_json)


def _known_options(main: Callable[[], None]) -> list[str]:
    """Return the names of all options of a job, whose main is in a module of its name."""
    try:
        node = ConfigStore.instance().load(f"{main.__module__.rpartition('.')[2]}_schema.yaml").node
    except HydraException:  # no job, or one without a schema
        return []
    return list(_names(node))


def _names(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(child, DictConfig) and OmegaConf.get_type(child) is not dict:
            yield from _names(child, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def to_settings(config: DictConfig, schema: type[SettingsT]) -> SettingsT:
    """Turn a composed configuration into checked settings.

    Raises:
        ConfigError: a value of the wrong type or out of range, one that holds credentials, or an option that there is
            not (names the option).
    """
    try:
        merged = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(schema), config))
        _refuse_borrowed_groups(merged, schema)
        settings = cast(SettingsT, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"{getattr(error, 'full_key', None) or 'options'}: {error}") from error
    for option in _unknown(settings):
        raise ConfigError(no_option(option, list(_names(OmegaConf.structured(schema)))))
    for option, text in _texts(settings):
        if holds_credentials(text):
            raise ConfigError(f"{option} holds credentials: {REMEDY}")
    return settings


def _refuse_borrowed_groups(config: DictConfig, schema: type, prefix: str = "") -> None:
    """Raise ConfigError for an option that refers to a group of others, or is one: it would be of another type."""
    for each in fields(schema):
        name, kind = prefix + each.name, each.default_factory
        if OmegaConf.is_interpolation(config, each.name):
            value = config[each.name]
            is_list = kind is list and isinstance(value, ListConfig)
            if not is_list and (kind is not MISSING or isinstance(value, DictConfig)):
                raise ConfigError(f"{name} refers to other options as a whole: give it values of its own")
        elif isinstance(kind, type) and is_dataclass(kind):
            _refuse_borrowed_groups(config[each.name], kind, f"{name}.")


def _unknown(value: Any, option: str = "") -> Iterator[str]:
    """Yield every option that the schema does not have: Hydra lets +name=value add any, and nothing would read it."""
    known = {each.name for each in fields(value)}
    for name, inner in vars(value).items():
        path = f"{option}.{name}".lstrip(".")
        if name not in known:
            yield path
        elif is_dataclass(inner):
            yield from _unknown(inner, path)


def _texts(value: Any, option: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in settings with the name of its option."""
    if isinstance(value, str):
        yield option, value
    elif is_dataclass(value):
        for each in fields(value):
            yield from _texts(getattr(value, each.name), f"{option}.{each.name}".lstrip("."))
    elif isinstance(value, Mapping | list):
        for part in value.items() if isinstance(value, Mapping) else enumerate(value):
            for inside in part:
                yield from _texts(inside, option)


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
