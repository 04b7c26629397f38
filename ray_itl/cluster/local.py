"""A cluster of this machine's own: where it keeps its files and its shared memory, and a secret that nobody reads."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import ray

from ray_itl.errors import ConfigError, RayItlError, ShardError, StorageError, TrainingError
from ray_itl.io.temporary import TemporaryFolder
from ray_itl.text import error_summary, format_size

_SOCKET_BYTES = 107 if os.uname().sysname == "Linux" else 103
"""Longest path of a socket."""
_BELOW = "/ray_itl-ray-12345678/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
_VARIABLES = ("RAY_TMPDIR", "TMPDIR")
_SHARED_MEMORY = Path("/dev/shm")
_LEAST_STORE_BYTES = 100 * 2**20
"""Shards and driver exchange a few MiB at a time; Ray takes no less than 75 MiB."""


def fits_sockets(folder: Path) -> bool:
    """Whether paths of Ray's sockets below a folder are short enough for the system."""
    return len(os.fsencode(f"{folder}{_BELOW}")) <= _SOCKET_BYTES


def candidate_folders() -> list[Path]:
    """Return where Ray's files may go, first the user's choice: RAY_TMPDIR, TMPDIR, then folders with short names."""
    asked = [os.environ[name] for name in _VARIABLES if os.environ.get(name)]
    usual = ["/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR") or "/run/user", "/dev/shm"]
    return [Path(folder).absolute() for folder in dict.fromkeys([*asked, *usual])]


def make_folder(candidates: Sequence[Path], notify: Callable[[str], None]) -> TemporaryFolder:
    """Make a folder for Ray's files in the first of these that will do, and say so where it is not the very first.

    Raises:
        ConfigError: none will do (says why not the first, which the user set).
        StorageError: the same, where the first is full or fails for the moment.
    """
    reasons: list[str] = []
    full = False
    for folder in candidates:
        if not fits_sockets(folder):
            most = _SOCKET_BYTES - len(_BELOW)
            reasons.append(f"{folder} is too long a path for Ray's sockets (at most {most} bytes)")
            continue
        try:
            made = TemporaryFolder("ray", folder)
        except RayItlError as error:
            full = full or (not reasons and isinstance(error, StorageError))
            reasons.append(str(error).partition(": ")[0])
            continue
        if reasons:
            notify(f"Ray keeps its files in {folder}, since {reasons[0]}")
        return made
    remedy = "set TMPDIR to a folder with a short name that can be written and has free space"
    message = f"a Ray of its own finds no temporary directory ({'; '.join(reasons[:2])}): {remedy}"
    raise StorageError(message) if full else ConfigError(message)


def store_options(asked: int | None, shared_memory: int, folder: Path) -> dict[str, object]:
    """Return the options of Ray's object store: in shared memory or, where that has no room, in a folder.

    Args:
        asked: Its size in bytes; None leaves it to Ray.
        shared_memory: Bytes free in /dev/shm.
        folder: Where it goes otherwise.
    """
    if shared_memory >= (asked or _LEAST_STORE_BYTES):
        return {"object_store_memory": asked}
    return {"object_store_memory": asked or _LEAST_STORE_BYTES, "_plasma_directory": str(folder)}


def start_local_cluster(
    stack: ExitStack,
    num_cpus: int | None,
    object_store_bytes: int | None,
    namespace: str | None,
    notify: Callable[[str], None],
) -> None:
    """Start a cluster on this machine and connect to it; its files go when the stack is closed.

    After a failure of shards or workers they stay until another process sweeps, for whoever reads Ray's logs.

    Raises:
        ConfigError, StorageError: no place for its files, or Ray does not start (says why).
    """
    ensure_token()
    folder = make_folder(candidate_folders(), notify)
    stack.push(
        lambda _, error, __: folder.leave() if isinstance(error, ShardError | TrainingError) else folder.remove()
    )
    stack.callback(ray.shutdown)
    free = _free_bytes(_SHARED_MEMORY)
    store = store_options(object_store_bytes, free, folder.path)
    if "_plasma_directory" in store:
        notify(f"Ray keeps shared objects in {folder.path}, since {_SHARED_MEMORY} has {format_size(free)} free")
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            namespace=namespace,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(folder.path),
            **store,  # pyright: ignore[reportArgumentType]
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ShardError(
            f"a Ray of its own does not start on this machine ({error_summary(error)}): see the logs below "
            f"{folder.path}; cluster.num_shards=0 (cluster.num_workers=0) works in this process, without Ray"
        ) from error


def ensure_token() -> None:
    """Give the embedded cluster a secret, without which anyone on the network could run code in it.

    Left to itself Ray writes one to a file in the home folder that every user of the machine can read. Ray reads
    token and mode once for each process, so they stay in the environment.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if mode == "token" and not given and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _free_bytes(folder: Path) -> int:
    """Return the bytes free on a folder's filesystem; on systems without shared memory in files, as if plenty."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 2**62
    return found.f_bsize * found.f_bavail
