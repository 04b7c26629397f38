"""Options of tracking check themselves, and keep credentials out of every file."""

from typing import Any

import pytest

from ray_itl.errors import ConfigError
from ray_itl.observability.settings import TrackingSettings

SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlflow_uri": f"https://me:{SECRET}@mlflow.example.com"}, r"mlflow_uri holds credentials.*MLFLOW_TRACKING_T"),
        ({"mlflow_uri": f"postgresql://me:{SECRET}@db/mlflow"}, "mlflow_uri holds credentials"),
        ({"mlflow_uri": " "}, "mlflow_uri=' '"),
        ({"experiment": None}, "experiment=None"),
        ({"experiment": ""}, "experiment=''"),
        ({"tensorboard_dir": "s3://bucket/tb"}, "tensorboard_dir=s3://bucket/tb cannot be a URI"),
        ({"run_name": "../up"}, r"run_name='\.\./up' .* may not lead out"),
        ({"run_name": "/etc"}, "run_name='/etc'"),
    ],
)
def test_what_cannot_be_used_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        TrackingSettings(**options)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("uri", ["https://mlflow.example.com:5000", "sqlite:////data/mlflow.db", "databricks"])
def test_usual_places(uri: str) -> None:
    assert TrackingSettings(mlflow_uri=uri, tensorboard_dir="/data/tb", run_name="a/seed-1").mlflow_uri == uri
