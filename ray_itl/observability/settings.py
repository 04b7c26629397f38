"""Options of what a run tells of itself, and where it is logged besides its own directory."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.io.credentials import holds_credentials
from ray_itl.observability.console import LOGS
from ray_itl.options.checks import Check, one_of, text
from ray_itl.options.declare import Options, option
from ray_itl.runs.paths import lasting_path


def log_option() -> Any:
    """Declare the option run.log, which every job has."""
    meaning = (
        "auto: a live line on a terminal, else lines; lines; quiet: warnings, errors and the last line; json: one "
        "object a line on stdout, and one on stderr for an error."
    )
    return option("auto", meaning, one_of(*LOGS), decides=False)


def _is_project(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"([\w.-]+/)?[\w.-]+", value))


@dataclass
class TrackingSettings(Options, group="tracking"):
    """Where a run is logged besides its own directory."""

    mlflow_uri: str | None = option(
        None,
        "MLflow server (https://...) or store (sqlite:///...) for options, curves, totals and report.html, with the "
        "extra mlflow; credentials by environment (MLFLOW_TRACKING_USERNAME, ...). null: not logged there.",
        text,
        decides=False,
    )
    experiment: str = option("ray_itl", "Name of the MLflow experiment; made if there is none.", text, decides=False)
    tensorboard_dir: str | None = option(
        None,
        "Folder for TensorBoard, a subfolder for each run, with the extra tensorboard. null: not logged there.",
        text,
        decides=False,
    )
    wandb_project: str | None = option(
        None,
        "Weights & Biases project, or team/project, for the same, with the extra wandb; log in by `wandb login` or "
        "WANDB_API_KEY. null: not logged there.",
        Check("give a project, or team/project", _is_project),
        decides=False,
    )
    wandb_mode: str | None = option(
        None,
        "online; offline: kept in run.dir/wandb, from where `wandb sync` sends it. null: WANDB_MODE, else online.",
        one_of("online", "offline"),
        decides=False,
    )
    run_name: str | None = option(None, "null: the name of the run directory.", text, decides=False)

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if self.mlflow_uri is not None and holds_credentials(self.mlflow_uri):
            raise ConfigError(
                "tracking.mlflow_uri holds credentials: leave them out and give them by environment, as "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, which are neither "
                "stored nor shown"
            )
        super().__post_init__()
        if self.run_name is not None and (".." in self.run_name.split("/") or self.run_name.startswith("/")):
            raise ConfigError(
                f"tracking.run_name={self.run_name!r} cannot be used: it becomes a folder of tracking.tensorboard_dir, "
                "so it may not lead out of it"
            )
        if self.tensorboard_dir is not None and "://" in self.tensorboard_dir:
            raise ConfigError(
                f"tracking.tensorboard_dir={self.tensorboard_dir} cannot be a URI: give a path, on a mounted "
                "filesystem where it has to outlive this machine"
            )


def absolute_tracking(tracking: TrackingSettings) -> TrackingSettings:
    """Return the settings of tracking with an absolute path; ConfigError as for `lasting_path`."""
    return replace(tracking, tensorboard_dir=lasting_path("tracking.tensorboard_dir", tracking.tensorboard_dir))
