"""The edge to Hydra: typed schemas of the jobs' configurations. No DictConfig passes below this module."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, TypeVar, cast

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ray_itl.cli.arguments import readable_by_hydra
from ray_itl.cli.guard import end_with, open_closed_streams
from ray_itl.cli.hydra_words import in_words, unknown_flag, unreadable
from ray_itl.cli.names import names_in_files, with_names, words_with_names
from ray_itl.errors import ConfigError
from ray_itl.options.declare import default_of, described
from ray_itl.options.help import help_text
from ray_itl.options.text import from_mapping
from ray_itl.runs.command import command_line

SettingsT = TypeVar("SettingsT")


def register_schemas(**schemas: type) -> None:
    """Make the schemas known to Hydra under the names that the YAML files in configs/ build on.

    From then on options take no environment variables, and ${help:curate} is the text of all options of curate_schema.
    """
    OmegaConf.register_new_resolver("oc.env", _refuse_variable, replace=True)
    OmegaConf.register_new_resolver("command", command_line, replace=True)  # for the texts of --help
    OmegaConf.register_new_resolver("help", _help, replace=True)
    store = ConfigStore.instance()
    for name, schema in schemas.items():
        _SCHEMAS[name] = schema
        node = OmegaConf.structured(schema)
        _open_mappings(node)
        store.store(name=name, node=node)


_SCHEMAS: dict[str, type] = {}


def _help(job: str) -> str:
    return help_text(_SCHEMAS[f"{job}_schema"]).replace("$", "$$")  # Hydra takes $ for a name of its own


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
    open_closed_streams()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # it raises then, and does not print and exit with 1
    in_json = "run.log=json" in sys.argv  # there are no composed options to ask
    try:
        sys.argv[1:] = [readable_by_hydra(argument) for argument in sys.argv[1:]]
    except ConfigError as error:
        end_with(2, error, in_json)
    if (wrong := unknown_flag(sys.argv[1:])) is not None:  # Hydra would print its usage, in many lines
        end_with(2, ConfigError(wrong), in_json)
    try:
        with names_in_files():
            main()
    except OverrideParseException as error:
        end_with(2, ConfigError(words_with_names(unreadable(str(error.override), str(error)))), in_json)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ or error.__context__
        said = words_with_names(f"{error}\n{cause if isinstance(cause, OmegaConfBaseException) else ''}")
        words = in_words(said, _known_options(main))
        end_with(2, cause if isinstance(cause, ConfigError) else ConfigError(words), in_json)
    except ConfigError as error:  # of a file of options
        end_with(2, error, in_json)
    except BrokenPipeError:  # whoever reads this, as `--help | head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of it as it ends
        sys.exit(0)
    except Exception as error:  # some words make Hydra fail
        why = f"Hydra cannot make sense of the options ({type(error).__name__}: {error}): check them"
        end_with(2, ConfigError(why), in_json)


def _known_options(main: Callable[[], None]) -> list[str]:
    """Return the names of all options of a command, whose main is in a module of its name."""
    schema = _SCHEMAS.get(f"{main.__module__.rpartition('.')[2]}_schema")
    return [] if schema is None else [each.name for each in described(schema)]


def to_settings(config: DictConfig, schema: type[SettingsT]) -> SettingsT:
    """Turn a composed configuration into checked settings.

    Raises:
        ConfigError: as `ray_itl.options.text.from_mapping`.
    """
    try:
        merged = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(schema), config))
        _refuse_borrowed_groups(merged, schema)
        values = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(f"{getattr(error, 'full_key', None) or 'options'}: {error}") from error
    return from_mapping(with_names(values), schema)


def _refuse_borrowed_groups(config: DictConfig, schema: type, prefix: str = "") -> None:
    """Raise ConfigError for an option that refers to a group of others, or is one: it would be of another type."""
    for each in fields(schema):
        name, default = prefix + each.name, default_of(each)
        if OmegaConf.is_interpolation(config, each.name):
            value = config[each.name]
            is_list = isinstance(default, list) and isinstance(value, ListConfig)
            is_group = is_dataclass(default) or isinstance(default, list | dict) or isinstance(value, DictConfig)
            if is_group and not is_list:
                raise ConfigError(f"{name} refers to other options as a whole: give it values of its own")
        elif is_dataclass(default):
            _refuse_borrowed_groups(config[each.name], type(default), f"{name}.")
