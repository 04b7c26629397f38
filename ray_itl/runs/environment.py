"""Where a run came from and what made it: submission id, library versions."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_itl.sources.base import PoolSource


def submission_id() -> str | None:
    """Return the id under which `ray job submit` runs this process, or None."""
    try:
        return json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]["job_submission_id"]
    except (KeyError, ValueError, TypeError):
        return None


def run_details(source: PoolSource) -> dict[str, Any]:
    """Return what manifest.json says besides the identity: where a run came from, and what made it."""
    from ray_itl.sources.parquet import ParquetSource  # here, since options read the environment and no rows

    manifest = source.manifest.to_json() if isinstance(source, ParquetSource) else None
    return {"pool_manifest": manifest, **environment()}


def environment(*libraries: str) -> dict[str, Any]:
    """Return what manifest.json says of the process: versions, those of further `libraries` too, and submission id."""
    names = ("ray_itl", "torch", "ray", "pyarrow", "numpy", *libraries)
    return {
        "versions": {name: _version(name) for name in names},
        "python": platform.python_version(),
        "submission_id": submission_id(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
