"""Rows as a data set at Hugging Face: checked for what is nobody's business, then one commit."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_itl.errors import ConfigError, InputError, RayItlError, StorageError
from ray_itl.extras import load_extra
from ray_itl.io.credentials import masked, one_line
from ray_itl.io.hub_names import is_repository

_FILE_BYTES = 400 << 20
_SERVER_ERROR = 500
_FOR_NOW = (408, 429)
"""Statuses of the client's making that pass, too: it waited too long, or asked too often."""
_NOBODYS = {".gitattributes"}
"""What the hub itself puts into a new repository."""
_PATH = re.compile(r"(file://|~/|/[^\s/]+/|[A-Za-z]:[\\/])[^\n]*")


def check_contents(table: pa.Table, unchecked: Sequence[str] = ()) -> None:
    """Look through all texts of a table, at any depth, before they are given to others.

    Args:
        table: What is to be pushed.
        unchecked: Columns that are not looked into.

    Raises:
        InputError: a text holds credentials, or is a path of this machine (names column and row, not the text).
    """
    for name in table.column_names:
        if name in unchecked or not _may_hold_texts(table.schema.field(name).type):
            continue
        for row, value in enumerate(table.column(name).to_pylist()):
            what = next(filter(None, map(_what_is_private, _texts_in(value))), None)
            if what is not None:
                raise InputError(
                    f"column {name!r} holds {what} in row {row} (counting from 0): mend it, leave the "
                    "column out by columns=, or name it in unchecked= if it may be seen (hub.columns, hub.unchecked)"
                )


def _what_is_private(text: str) -> str | None:
    if masked(text) != text:
        return "what looks like credentials"
    return "a path of this machine" if _PATH.fullmatch(text) else None


def _may_hold_texts(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_may_hold_texts(kind.field(k).type) for k in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _may_hold_texts(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts_in(each)]
    return [text for each in value for text in _texts_in(each)] if isinstance(value, list | tuple) else []


def check_access(repository: str, *, is_ours: bool) -> None:
    """Check what can be known of a push before the work begins: library, token, and whether the name is free.

    Args:
        repository: Name of the data set.
        is_ours: Whether what is there already may be changed.

    Raises:
        MissingExtraError, InputError, StorageError: as `push`.
        ConfigError: there is no token, or one that can only read.
    """
    hub = _client()
    if hub.get_token() is None:
        raise ConfigError(f"{repository} cannot be pushed without a token: run `hf auth login`, or set HF_TOKEN")
    api = hub.HfApi()
    with _explained(repository, None):
        if api.whoami().get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise ConfigError(
                f"{repository} cannot be pushed by a token that can only read: set HF_TOKEN to one that may"
            )
        if not is_ours:
            _require_free(api, repository)


def push(
    table: pa.Table,
    card: str,
    repository: str,
    *,
    private: bool,
    token: str | None,
    exist_ok: bool,
    message: str,
    part: str | None = None,
) -> str:
    """Make a data set of a table and a card, in one commit that is there whole or not at all; returns its address.

    Args:
        table: All rows: the split "train", or a part of it.
        card: README.md.
        repository: Its name, with or without an owner.
        private: Whether only its owner sees it, where it is made.
        token: Of Hugging Face; None: that of `hf auth login`, or of the environment.
        exist_ok: Whether to change what is in a repository that is there already.
        message: Of the commit.
        part: What the files are called by: those of other parts stay. None: there is one part, which replaces all.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        InputError: the repository is there already, or the Hub refuses (without the token in the message).
        StorageError: the Hub fails or cannot be reached; nothing was changed.
    """
    if not is_repository(repository):
        raise InputError(f"{repository!r} is no name of a data set: give one like me/picks")
    hub = _client()
    api = hub.HfApi(token=token)
    with _explained(repository, token):
        there = api.repo_exists(repository, repo_type="dataset")
        if there and not exist_ok:
            _require_free(api, repository)
        name = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=exist_ok or there).repo_id
        try:
            operations = _operations(hub, api.list_repo_files(name, repo_type="dataset"), table, card, part)
            done = api.create_commit(name, operations, commit_message=message, repo_type="dataset")
        except BaseException:
            if not there:
                api.delete_repo(name, repo_type="dataset", missing_ok=True)
            raise
    return str(done.commit_url)


def _client() -> Any:
    return load_extra("huggingface_hub", "push_to_hub", "hub")


def _require_free(api: Any, repository: str) -> None:
    """Raise InputError where a repository holds something; an empty one may be left of a push that was killed."""
    if not api.repo_exists(repository, repo_type="dataset"):
        return
    if {*api.list_repo_files(repository, repo_type="dataset")} - _NOBODYS:
        raise InputError(
            f"the data set {repository} is there already: give another name, or exist_ok=True (hub.replace=true) to "
            "replace what it holds"
        )


@contextmanager
def _explained(repository: str, token: str | None) -> Iterator[None]:
    """Turn what the client raises into errors of ours, without the token."""
    try:
        yield
    except RayItlError:
        raise
    except Exception as error:  # of several libraries, as the connection, the server or the client fails
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int) and status < _SERVER_ERROR and status not in _FOR_NOW:
            raise InputError(f"Hugging Face refuses {repository}: {_without(token, error)}") from None
        raise StorageError(f"{repository} could not be pushed, nothing was changed: {_without(token, error)}") from None


def _operations(hub: Any, there: Sequence[str], table: pa.Table, card: str, part: str | None) -> list[Any]:
    """Return what makes a repository of some files one of the table and the card, or one with this part of the rows."""
    files = {**_files(table, part or "train"), "README.md": card.encode()}
    own = re.compile(r"data/.*" if part is None else rf"data/{re.escape(part)}-\d{{5}}-of-\d{{5}}\.parquet")
    old = [name for name in there if own.fullmatch(name) and name not in files]
    added = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    return [*(hub.CommitOperationDelete(path_in_repo=name) for name in old), *added]


def _without(token: str | None, error: Exception) -> str:
    text = one_line(str(error))
    return text if not token else text.replace(token, "...")


def _files(table: pa.Table, part: str) -> dict[str, bytes]:
    """Return the table as Parquet files of at most some 400 MB of rows."""
    count = max(1, -(-table.nbytes // _FILE_BYTES))
    rows = max(1, -(-table.num_rows // count))
    files = {}
    for k in range(count):
        sink = io.BytesIO()
        pq.write_table(table.slice(k * rows, rows), sink)
        files[f"data/{part}-{k:05d}-of-{count:05d}.parquet"] = sink.getvalue()
    return files
