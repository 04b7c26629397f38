"""The strict check of manifests: fields.yaml as a JSON Schema in which nothing else is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

FIELDS: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text())
SIMPLE: dict[str, dict[str, Any]] = {
    "string": {"type": "string", "minLength": 1},
    "boolean": {"type": "boolean"},
    "number": {"type": "number", "minimum": 0},
    "count": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "positive": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "name": {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
    "quantity": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$"},
    "cron": {"type": "string", "pattern": r"^([0-9*/,-]+ ){4}[0-9*/,-]+$"},
}


def problems(manifest: Any) -> list[str]:
    """Say of every field that is unknown, misplaced, missing or of another type where it is; [] if none is."""
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if not isinstance(kind, str) or "kind!" not in FIELDS.get(kind, {}):
        return [f"kind {kind!r} is not known"]
    errors = Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": DEFINITIONS}).iter_errors(manifest)
    return sorted(f"{error.json_path}: {error.message}" for error in errors)


def _typed(words: str) -> dict[str, Any]:
    if words in SIMPLE:
        return SIMPLE[words]
    if words in FIELDS:
        return {"$ref": f"#/$defs/{words}"}
    if inside := re.fullmatch(r"\[(.*)\]", words):
        return {"type": "array", "items": _typed(inside[1]), "minItems": 1}
    if inside := re.fullmatch(r"\{(.*)\}", words):
        return {"type": "object", "additionalProperties": _typed(inside[1])}
    return {"enum": words.split(" | ")}


def _definition(kind: str, fields: dict[str, str]) -> dict[str, Any]:
    properties = {name.removesuffix("!"): _typed(words) for name, words in fields.items()}
    if "kind!" in fields:  # a kind of its own name, not of that type
        properties["kind"] = {"const": kind}
    required = [name.removesuffix("!") for name in fields if name.endswith("!")]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


DEFINITIONS = {kind: _definition(kind, fields) for kind, fields in FIELDS.items()}
