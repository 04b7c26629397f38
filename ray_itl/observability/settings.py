"""Options of what a run tells of itself: where it is logged besides its own directory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ray_itl.errors import ConfigError
from ray_itl.io.credentials import holds_credentials
from ray_itl.runs.paths import lasting_path


@dataclass
class TrackingSettings:
    """Where a run is logged besides its own directory."""

    mlflow_uri: str | None = None
    """MLflow server (https://...) or store (sqlite:///...), with the extra `mlflow`. null: not logged there."""
    experiment: str = "ray_itl"
    """Name of the MLflow experiment; made if there is none."""
    tensorboard_dir: str | None = None
    """Folder for TensorBoard, a subfolder for each run, with the extra `tensorboard`. null: not logged there."""
    run_name: str | None = None
    """null: the name of the run directory."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the option."""
        if self.mlflow_uri is not None and holds_credentials(self.mlflow_uri):
            raise ConfigError(
                "tracking.mlflow_uri holds credentials: leave them out and give them by environment, as "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, which are neither "
                "stored nor shown"
            )
        for option in ("mlflow_uri", "experiment", "tensorboard_dir", "run_name"):
            value = getattr(self, option)
            if not (isinstance(value, str) and value.strip()) and (value is not None or option == "experiment"):
                raise ConfigError(f"tracking.{option}={value!r} cannot be used: give a text, or leave it out")
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
