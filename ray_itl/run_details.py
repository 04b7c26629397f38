"""What a run's manifest.json says besides its identity: where it came from, and what made it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ray_itl.command import submission_id
from ray_itl.io.parquet import ParquetSource
from ray_itl.problem import Problem


def run_details(problem: Problem) -> dict[str, Any]:
    """Return what manifest.json says besides the identity."""
    source = problem.source
    manifest = source.manifest.to_json() if isinstance(source, ParquetSource) else None
    return {
        "pool_manifest": manifest,
        "versions": {name: _version(name) for name in ("ray_itl", "torch", "ray", "pyarrow", "numpy")},
        "python": platform.python_version(),
        "submission_id": submission_id(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
