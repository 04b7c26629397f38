"""Which Ray is meant: the option cluster.address, or RAY_ADDRESS, in any form in which people have them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray_itl.errors import ConfigError

VARIABLE = "RAY_ADDRESS"
_LOCAL, _AUTO = "local", "auto"
_REMEDY = "give the head's host:port (as `ray status` and `ray start` show it, port 6379 by default), auto, or local"


@dataclass(frozen=True)
class ClusterAddress:
    """A cluster to connect to, or the wish for one of our own on this machine."""

    text: str
    """"local", "auto", or host:port."""
    option: str
    """What the user set: "cluster.address" or "RAY_ADDRESS"."""

    @property
    def is_embedded(self) -> bool:
        """Whether a cluster is to be started on this machine, which ends with the connection."""
        return self.text == _LOCAL

    @property
    def is_found_by_ray(self) -> bool:
        """Whether Ray is to look for a cluster on this machine."""
        return self.text == _AUTO

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where the head listens, of an address that has the form host:port."""
        host, _, port = self.text.rpartition(":")
        return host.strip("[]"), int(port)

    def __str__(self) -> str:
        """Return it as the user set it."""
        return f"{self.option}={self.text}"


def find_address(option: str | None, environment: Mapping[str, str]) -> ClusterAddress:
    """Return what the option says or, where it is null, empty or "auto", what RAY_ADDRESS says; else "local".

    Raises:
        ConfigError: no address of a cluster that can be connected to (names what the user set).
    """
    asked, given = (option or "").strip(), environment.get(VARIABLE, "").strip()
    if given and asked in ("", _AUTO):
        return _checked(ClusterAddress(given, VARIABLE))
    return _checked(ClusterAddress(asked or _LOCAL, "cluster.address"))


def _checked(address: ClusterAddress) -> ClusterAddress:
    if address.is_embedded or address.is_found_by_ray:
        return address
    otherwise = f"{_REMEDY}, or unset {VARIABLE}" if address.option == VARIABLE else _REMEDY
    scheme = address.text.partition("://")[0] if "://" in address.text else ""
    if scheme in ("http", "https"):
        raise ConfigError(
            f"{address} is the address of Ray's dashboard and Jobs API, to which `ray job submit` sends jobs (it reads "
            f"RAY_API_SERVER_ADDRESS, too): submit this command as a job, or {otherwise}"
        )
    if scheme == "ray":
        raise ConfigError(
            f"{address} is the address of a Ray Client server, through which shards cannot be reached: run this "
            f"command on the cluster, as with `ray job submit`, or {otherwise}"
        )
    host, _, port = address.text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    good = bool(bare) and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if scheme or not good or any(c.isspace() or c in "/,@" for c in host) or (":" in host and bare == host):
        raise ConfigError(f"{address} is no address of a Ray cluster: {otherwise}")
    return address
