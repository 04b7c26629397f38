"""Data sets on the Hugging Face hub, hf://datasets/ORGANISATION/NAME[@REVISION][/PATH], by the hub's own client.

A branch may move while a pool is read: so a revision is turned into the commit that it means, once, when a pool is
listed. Whoever reads the pool then reads that commit, which stands in its manifest.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow.fs as pafs

from ray_itl.errors import InputError, RayItlError, StorageError
from ray_itl.extras import load_extra

_PREFIX = "hf://"
_DATASETS = "datasets/"
_REFUSED = (401, 403, 404)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_on_hub(uri: str) -> bool:
    """Whether a URI is one of the hub's."""
    return uri.startswith(_PREFIX)


def open_hub(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the hub as a filesystem, and the path of a URI there. Tokens are found where the client looks for them.

    Raises:
        InputError: it is no data set's.
        MissingExtraError: the client is not installed.
    """
    path = uri.removeprefix(_PREFIX)
    if not path.startswith(_DATASETS) or path.count("/") < 2:
        raise InputError(f"{uri!r} is no data set on the hub: name one as hf://datasets/ORGANISATION/NAME")
    return pafs.PyFileSystem(pafs.FSSpecHandler(_client().HfFileSystem())), path


def pinned(path: str, source: str) -> str:
    """Return a path on the hub with the commit that it means now, whatever revision it names.

    Raises:
        InputError: there is no such data set or revision, or it may not be read.
        StorageError: the hub cannot be reached.
    """
    client = _client()
    try:
        found = client.HfFileSystem().resolve_path(path)
        commit = found.revision
        if not _COMMIT.fullmatch(commit):
            commit = client.HfApi().repo_info(found.repo_id, repo_type="dataset", revision=commit).sha
    except Exception as error:  # the client raises what the library below it does
        raise _unreachable(source, error) from error
    return f"{_DATASETS}{found.repo_id}@{commit}/{found.path_in_repo}".rstrip("/")


def _client() -> Any:
    return load_extra("huggingface_hub", "a data set on the hub (hf://)", "hub")


def _unreachable(source: str, error: Exception) -> RayItlError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, FileNotFoundError | NotImplementedError | ValueError) or status in _REFUSED:
        return InputError(
            f"{source!r} cannot be opened ({reason}): check its name and revision and, where it is not public, HF_TOKEN"
        )
    return StorageError(f"{source!r} cannot be reached at the moment ({reason}): run the same command again")
