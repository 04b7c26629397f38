"""The manifests of jobs/kubernetes, and walking through them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "jobs" / "kubernetes"
MANIFESTS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))
}


def walk(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """Yield every value inside a manifest with its path, from the outside in."""
    yield path, value
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from walk(part, f"{path}.{key}" if isinstance(key, str) else f"{path}[{key}]")


def found(manifest: Any, key: str) -> list[Any]:
    """Return every value of a key, wherever it is."""
    return [value[key] for _, value in walk(manifest) if isinstance(value, dict) and key in value]


def pods(manifest: Any) -> list[dict[str, Any]]:
    """Return every pod template."""
    return [value for _, value in walk(manifest) if isinstance(value, dict) and "containers" in value.get("spec", {})]


def ray_job_spec(name: str) -> dict[str, Any]:
    """Return the RayJobSpec in a manifest."""
    spec = MANIFESTS[name]["spec"]
    return spec["jobTemplate"] if MANIFESTS[name]["kind"] == "RayCronJob" else spec
