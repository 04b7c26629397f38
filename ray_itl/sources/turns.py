"""Conversations that stand in two columns, prompt and completion, as the one column `messages` that they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from ray_itl.sources.types import is_list, is_text, plain_type

MESSAGES = "messages"
PAIR = ("prompt", "completion")
_ROLES: dict[str, str] = dict(zip(PAIR, ("user", "assistant"), strict=True))
_TURNS = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))


def stands_in_pair(column: str, types: Mapping[str, pa.DataType]) -> bool:
    """Whether a column is `messages`, and there are a prompt and a completion in its place.

    Each may be a text, one turn of the user's and one of the assistant's, or a list of messages.
    """
    if column != MESSAGES or column in types or not all(name in types for name in PAIR):
        return False
    return all(is_text(kind) or _is_turns(kind) for kind in map(plain_type, (types[name] for name in PAIR)))


def pair_type(types: Mapping[str, pa.DataType]) -> pa.DataType:
    """Return the type of `messages` that prompts and completions of some types make."""
    kinds = (plain_type(types[name]) for name in PAIR)
    turns = [_TURNS if is_text(kind) else pa.list_(kind.value_type) for kind in kinds]
    schemas = [pa.schema([("", kind)]) for kind in turns]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def joined(prompt: Any, completion: Any) -> pa.Array:
    """Return the messages of rows, from arrays of prompts and completions; null where one of the two is."""
    kind = pair_type(dict(zip(PAIR, (prompt.type, completion.type), strict=True)))
    return pa.array(_joined(prompt.to_pylist(), completion.to_pylist()), kind)


def with_messages(table: pa.Table) -> pa.Table:
    """Return a table with the column `messages`, if it has a prompt and a completion instead."""
    if not stands_in_pair(MESSAGES, types_of(table.schema)):
        return table
    return table.append_column(MESSAGES, joined(*(table.column(name) for name in PAIR)))


def types_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Return the type of every column, the first of several of one name."""
    return {field.name: field.type for field in reversed(list(schema))}


def _joined(prompts: list[Any], completions: list[Any]) -> Iterator[list[Any] | None]:
    for prompt, completion in zip(prompts, completions, strict=True):
        none = prompt is None or completion is None
        yield None if none else [*_turns(prompt, PAIR[0]), *_turns(completion, PAIR[1])]


def _turns(value: Any, column: str) -> list[Any]:
    return [{"role": _ROLES[column], "content": value}] if isinstance(value, str) else value


def _is_turns(kind: pa.DataType) -> bool:
    return is_list(kind) and pa.types.is_struct(kind.value_type) and kind.value_type.get_field_index("role") >= 0
