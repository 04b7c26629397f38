"""Options that do not go with queries, refused by name before anything is opened."""

from __future__ import annotations

from ray_itl.core.acquisitions import RULES
from ray_itl.curation.settings import BASELINE_RULES, CurationSettings
from ray_itl.errors import ConfigError

_OF_SELECTION = (
    *("budget", "cost_column", "per_cost", "quotas", "min_distance", "share", "replacement", "min_gain", "explain"),
)


def check_options(settings: CurationSettings) -> None:
    """Raise ConfigError for options that a selection for many queries does not obey."""
    chosen, name = settings.selection, settings.acquisition.name
    found = [f"selection.{option}={getattr(chosen, option)}" for option in _OF_SELECTION if getattr(chosen, option)]
    if chosen.near_target == "exclude":
        found.append("selection.near_target=exclude")
    found += [f"{group}.{option}={value}" for group, option, value in _others(settings) if value]
    if found:
        raise ConfigError(
            f"{found[0]} does not go with target.query_column: leave it out, or select for each query by itself"
        )
    if chosen.nearest is not None and chosen.min_similarity is not None:
        raise ConfigError(
            f"selection.nearest={chosen.nearest} does not go with selection.min_similarity: leave one of them out"
        )
    if name in BASELINE_RULES:
        raise ConfigError(
            f"acquisition.name={name} does not go with target.query_column: use one of {', '.join(RULES)}"
        )


def _others(settings: CurationSettings) -> list[tuple[str, str, object]]:
    return [
        ("target", "task_column", settings.target.task_column),
        ("avoid", "path", settings.avoid.path),
        ("state", "dir", settings.state.dir),
        ("evaluation", "class_column", settings.evaluation.class_column),
        ("run", "push_to_hub", settings.run.push_to_hub),
        ("tracking", "mlflow_uri", settings.tracking.mlflow_uri),
        ("tracking", "tensorboard_dir", settings.tracking.tensorboard_dir),
    ]
