"""The head of a cluster: whether it is there, takes our token and has our versions, and whether it stays."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray._private import ray_constants, services, worker
from ray._private.utils import check_version_info
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]  # compiled
from ray.exceptions import AuthenticationError, RayError

from ray_itl.cluster.address import VARIABLE, ClusterAddress
from ray_itl.errors import ConfigError, ShardError
from ray_itl.text import error_summary

_REACH_S = 10.0
_METADATA_KEY, _METADATA_NAMESPACE = b"CLUSTER_METADATA", b"cluster"
_RAY_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_PATIENCE, _RAY_GIVES_UP_S = 0.5, 60.0
"""The head is lost after this share of the time after which Ray ends the process, without a word of ours."""


def find_head(address: ClusterAddress) -> str:
    """Return host:port of the head at an address that answered, took our token and has our versions.

    Ray itself would try for minutes, and says of all that goes wrong that it could not connect.

    Raises:
        ConfigError: no such head (says why, and what the user set).
    """
    try:
        host_port = services.canonicalize_bootstrap_address("auto") if address.is_found_by_ray else address.text
        assert host_port is not None, "an address that Ray finds is one of a cluster that runs"
        host, _, port = host_port.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, ValueError) as error:  # ValueError: a host's name that cannot be one
        raise absent(address, error) from error
    try:
        metadata = _metadata(host_port)
    except AuthenticationError as error:
        raise ConfigError(refused_token(address, os.environ)) from error
    except (RayError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"something answers at {address}, but no head of a Ray cluster ({error_summary(error)}): give the port of "
            "the head (6379 by default; 8265 is the dashboard, 10001 for Ray Client)"
        ) from error
    if (difference := versions_differ(metadata)) is not None:
        raise ConfigError(f"the cluster at {address} {difference}")
    return host_port


def absent(address: ClusterAddress, error: BaseException) -> ConfigError:
    """Return the error for a cluster that is not there."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    correct = "correct or unset RAY_ADDRESS" if address.option == VARIABLE else "correct the address (or RAY_ADDRESS)"
    return ConfigError(
        f"no Ray cluster answers at {address} ({reason}): start one with `ray start --head`, {correct}, or use "
        "cluster.address=local"
    )


def refused_token(address: ClusterAddress, environment: Mapping[str, str]) -> str:
    """Say that a cluster turned our token away, and where that came from."""
    if environment.get("RAY_AUTH_MODE", "").lower() != "token":
        ours = "but RAY_AUTH_MODE is not `token` here, so that none was sent"
    elif environment.get("RAY_AUTH_TOKEN"):
        ours = "and RAY_AUTH_TOKEN holds another"
    elif environment.get("RAY_AUTH_TOKEN_PATH"):
        ours = "and the file of RAY_AUTH_TOKEN_PATH holds another"
    else:
        ours = "and neither RAY_AUTH_TOKEN nor ~/.ray/auth_token holds it"
    return (
        f"the cluster at {address} asks for its token, {ours}: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
        "RAY_AUTH_TOKEN_PATH) to the cluster's"
    )


def versions_differ(metadata: Mapping[str, Any]) -> str | None:
    """Say which versions a cluster has and which are ours, where Ray would not connect them; None where it would."""
    try:
        check_version_info(dict(metadata), "here")
    except RuntimeError:
        here = f"Ray {ray.__version__} and Python {'.'.join(map(str, sys.version_info[:3]))}"
        there = f"Ray {metadata['ray_version']} and Python {metadata['python_version']}"
        return (
            f"runs {there}, but this process runs {here}: use the same versions on both sides, as with one image or "
            "one environment for head, workers and jobs"
        )
    except KeyError:  # it tells none, so Ray will see for itself
        return None
    return None


def _metadata(host_port: str) -> dict[str, Any]:
    """Return what a head says of its cluster; empty if nothing."""
    found = GcsClient(address=host_port).internal_kv_get(_METADATA_KEY, namespace=_METADATA_NAMESPACE)
    return json.loads(found) if found else {}


def can_grow() -> bool:
    """Whether nodes may join the cluster that this process is connected to: not one that `ray.init` started."""
    try:
        return not _metadata(ray.get_runtime_context().gcs_address).get("ray_init_cluster", False)
    except (RayError, RuntimeError, OSError):
        return True


class HeadWatch:
    """Notices that the connected cluster is gone; to be asked now and then while something is awaited."""

    def __init__(
        self,
        answers: Callable[[], bool] | None = None,
        gone_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        may_compute: Callable[[], bool] | None = None,
    ) -> None:
        """Watch the head that this process is connected to.

        Args:
            answers: Whether it answers just now; None asks by a connection.
            gone_s: Seconds in which it may be silent, as while it is restarted; None for half of Ray's.
            clock: Seconds.
            may_compute: Whether there is, or may yet be, a node to compute on; None asks the head.
        """
        self._answers = answers or _head_answers
        self._may_compute = may_compute or _may_compute
        ray_s = float(os.environ.get(_RAY_VARIABLE, _RAY_GIVES_UP_S))
        self._gone_s = _PATIENCE * ray_s if gone_s is None else gone_s
        self._clock = clock
        self._silent_since: float | None = None

    def check(self) -> None:
        """Ask whether the head answers, and has nodes.

        Raises:
            ShardError: it has not for too long, or this machine was the only node and is none any more.
        """
        if self._answers():
            self._silent_since = None
            if not self._may_compute():
                # Ray ends this process some ten seconds after its node, without a word of ours.
                raise ShardError(
                    "the Ray cluster that this process started has died (its node is gone; memory may have run out): "
                    "run the same command again to resume"
                )
            return
        now = self._clock()
        self._silent_since = self._silent_since or now
        if now - self._silent_since >= self._gone_s:
            raise ShardError(
                f"the head of the Ray cluster has not answered for {self._gone_s:g} seconds: once there is a cluster, "
                "run the same command again to resume"
            )


def _may_compute() -> bool:
    """Whether the connected cluster has a living node, or one may join; true also where the head does not tell."""
    own: Any = worker._global_node  # where `ray.init` started it; the head is slower to notice than Ray to end us
    if own is not None and own.is_head():
        dead = {kind for kind, _ in own.dead_processes()}
        if ray_constants.PROCESS_TYPE_RAYLET in dead:
            return False
    try:
        return any(node["Alive"] for node in ray.nodes()) or can_grow()
    except (RayError, RuntimeError, OSError):
        return True


def _head_answers() -> bool:
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
    except OSError:
        return False
    return True
