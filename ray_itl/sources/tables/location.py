"""How the libraries of tables call a place on a filesystem that Arrow has opened."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import pyarrow.fs as pafs

from ray_itl.errors import InputError
from ray_itl.io.filesystems import local_path

_BUCKETS = ("s3", "gs", "gcs")
_WITH_HOST = ("hdfs", "viewfs")


@dataclass(frozen=True)
class Location:
    """A folder or file for another library than Arrow."""

    address: str
    """A path of this machine, or a URI."""
    query_text: str
    """What the URI says of the store, as Arrow names it: region, endpoint_override, scheme."""

    @property
    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_text))

    @property
    def endpoint(self) -> str | None:
        """The address of the store, where it is not the usual one."""
        endpoint = self._query.get("endpoint_override")
        return endpoint and (endpoint if "://" in endpoint else f"{self._query.get('scheme', 'https')}://{endpoint}")

    @property
    def object_store(self) -> dict[str, str]:
        """The options that libraries in Rust take (Delta, Lance); credentials they find in the environment."""
        region, endpoint = self._query.get("region"), self.endpoint
        options = {} if region is None else {"aws_region": region}
        if endpoint is not None:
            options |= {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
        return options

    @property
    def file_io(self) -> dict[str, str]:
        """The properties that Iceberg takes."""
        found = {"s3.region": self._query.get("region"), "s3.endpoint": self.endpoint}
        return {name: value for name, value in found.items() if value is not None}


def locate(filesystem: pafs.FileSystem, uri: str, path: str) -> Location:
    """Return the location of a path on a filesystem that was opened from a URI ("": not from one).

    Raises:
        InputError: libraries of tables cannot reach it.
    """
    local = local_path(filesystem, path)
    if local is not None:
        return Location(local, "")
    parts = urlsplit(uri)
    if parts.scheme in _BUCKETS:
        return Location(f"{parts.scheme}://{path}", parts.query)
    if parts.scheme in _WITH_HOST:
        return Location(f"{parts.scheme}://{parts.netloc}{path}", parts.query)
    raise InputError(
        f"{path!r} is a table on a filesystem on which tables cannot be read: name it by a path or URI (s3://, gs://, "
        "hdfs://), or hand over a pyarrow dataset that the table's library made"
    )
