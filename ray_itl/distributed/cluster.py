"""Connecting to Ray: a cluster in this process, the one a job runs on, or one that the caller has already."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from ray_itl.errors import ConfigError

_REACH_S = 10.0


@contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
    namespace: str | None = None,
) -> Iterator[None]:
    """Connect to Ray for the length of a `with` block; on leaving, end only what was begun here.

    A connection that the caller already has is used and left alone. Otherwise an address (or RAY_ADDRESS, which
    `ray job submit` sets) is connected to, and without one an embedded cluster is started on this machine, reachable
    only with a token that lives in this process's environment and is never written to a file.

    Args:
        address: "auto", "host:port", "ray://..." or "local" (an embedded cluster even where RAY_ADDRESS is set).
        num_cpus: CPUs of an embedded cluster; None for all of this machine.
        object_store_bytes: Shared memory of an embedded cluster; None leaves it to Ray.
        namespace: Namespace of named actors.

    Raises:
        ConfigError: nothing answers at the address, or an option does not apply.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    embedded = address == "local"
    if not embedded and (num_cpus is not None or object_store_bytes is not None):
        raise ConfigError(f"num_cpus and object_store_bytes are not for cluster.address={address}")
    try:
        with _own_sigterm():
            if embedded:
                _start_embedded(num_cpus, object_store_bytes, namespace)
            else:
                _connect(address, namespace)
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what this process does about SIGTERM: `ray.init` puts an exit without a word in its place."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before != signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _start_embedded(num_cpus: int | None, object_store_bytes: int | None, namespace: str | None) -> None:
    _ensure_token()
    ray.init(
        address="local",
        num_cpus=num_cpus,
        object_store_memory=object_store_bytes,
        namespace=namespace,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )


def _connect(address: str, namespace: str | None) -> None:
    try:
        _check_reachable(address)
        ray.init(address=address, namespace=namespace, log_to_driver=False)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster answers at cluster.address={address} ({str(error).splitlines()[0]}): start one with "
            "`ray start --head`, correct the address (or RAY_ADDRESS), or use cluster.address=local"
        ) from error


def _check_reachable(address: str) -> None:
    """OSError if nothing listens at a "host:port"; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()


def _ensure_token() -> None:
    """Give the embedded cluster a secret, without which anyone on the network could run code in it.

    Left to itself Ray writes one to a file in the home folder that every user of the machine can read. Ray reads
    token and mode once for each process, so they stay in the environment.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if mode == "token" and not given and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def living_nodes() -> list[dict[str, float]]:
    """Return the resources of every living node of the cluster by Ray's names ("CPU", "GPU", "memory" in bytes)."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
