"""The sequential rule of a run: from its options to an instance, and back."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.acquisitions import RULES, load_rule
from ray_itl.core.acquisitions.base import Acquisition, GainUnit
from ray_itl.curation.settings import BASELINE_RULES, AcquisitionSettings
from ray_itl.errors import ConfigError
from ray_itl.runs.fingerprint import tensor_digest


def build_acquisition(
    settings: AcquisitionSettings, task_weights: tuple[float, ...] = (1.0,), given: Acquisition | None = None
) -> Acquisition:
    """Return the rule of some options; for a baseline ITL, by which its picks are valued.

    Args:
        settings: The options, the noise variance a number.
        task_weights: c, one for each task.
        given: The instance that the caller of `select` handed over, if any.

    Raises:
        ConfigError: no such rule, one that options cannot describe, or one that is gone with the process that had it.
    """
    if settings.in_memory:
        if given is None or settings_of(given).name != settings.name:
            raise ConfigError(
                f"acquisition.name={settings.name}: this rule was an instance, which options cannot describe: hand "
                "an equal one to ray_itl.select"
            )
        return _checked(given)
    rule = load_rule("itl" if settings.name in BASELINE_RULES else settings.name)
    return _checked(_from_options(rule, settings, task_weights))


def settings_of(rule: Acquisition) -> AcquisitionSettings:
    """Return the options that describe a rule.

    Its name is that in `RULES`, else "module:Class" where that and the other options lead to an equal instance; else a
    text that is the same for equal instances only (`AcquisitionSettings.in_memory`).

    Raises:
        ConfigError: its noise variance, or that of the targets, is out of range.
    """
    kind = type(rule)
    path = f"{kind.__module__}:{kind.__qualname__}"
    name = next((name for name, registered in RULES.items() if registered == path), path)
    target_noise = getattr(rule, "target_noise_variance", None)
    settings = AcquisitionSettings(name, rule.noise_variance, target_noise)
    if kind.__module__ != "__main__":  # the same name is another module in another process
        try:
            if load_rule(name) is kind and _text(_from_options(kind, settings, (1.0,))) == _text(rule):
                return settings
        except ConfigError:
            pass
    return AcquisitionSettings(f"<{_text(rule)} in memory>", rule.noise_variance, target_noise)


def _checked(rule: Acquisition) -> Acquisition:
    if rule.unit not in get_args(GainUnit):
        raise ConfigError(
            f"acquisition.name: {type(rule).__qualname__}.unit is {rule.unit!r}: use {' or '.join(get_args(GainUnit))}"
        )
    return rule


def _from_options(
    rule: type[Acquisition], settings: AcquisitionSettings, task_weights: tuple[float, ...]
) -> Acquisition:
    assert settings.noise_variance is not None, "it is relative to rows that are not read yet"
    try:
        return rule.from_options(settings.noise_variance, settings.target_noise_variance, task_weights)
    except TypeError as error:
        raise ConfigError(
            f"acquisition.name={settings.name} cannot be built from options ({error}): give its further fields "
            "defaults, or define from_options"
        ) from error


def _text(value: Any) -> str:
    """Return a text that is the same for equal values only, in any process: rules with all they hold, arrays by digest.

    A repr alone would round arrays.
    """
    if isinstance(value, Acquisition):
        held = ", ".join(f"{name}={_text(each)}" for name, each in sorted(vars(value).items()))
        return f"{type(value).__module__}:{type(value).__qualname__}({held})"
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        return tensor_digest(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(_text(each) for each in value)})"
    return repr(value)
