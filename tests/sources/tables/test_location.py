"""How libraries of tables are told where a table is."""

import pyarrow.fs as pafs
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.tables.location import locate

ELSEWHERE = pafs.FileSystem.from_uri("mock:///")[0]


def test_local_paths_are_paths() -> None:
    local = pafs.LocalFileSystem()
    assert locate(local, "", "/data/t").address == "/data/t"
    assert locate(local, "file:///data", "/data/t").address == "/data/t"
    assert locate(pafs.SubTreeFileSystem("/data", local), "", "t").address == "/data/t"


@pytest.mark.parametrize(
    ("uri", "path", "address"),
    [
        ("s3://bucket/pool/*.parquet?region=eu-north-1", "bucket/pool/t", "s3://bucket/pool/t"),
        ("gs://bucket/pool", "bucket/pool/t", "gs://bucket/pool/t"),
        ("hdfs://name:8020/pool", "/pool/t", "hdfs://name:8020/pool/t"),
    ],
)
def test_uris_are_put_together_again(uri: str, path: str, address: str) -> None:
    assert locate(ELSEWHERE, uri, path).address == address


def test_what_a_uri_says_of_the_store_is_passed_on() -> None:
    found = locate(ELSEWHERE, "s3://b/p?region=eu-north-1&endpoint_override=127.0.0.1:9000&scheme=http", "b/p")
    address = "http://127.0.0.1:9000"
    assert found.object_store == {"aws_region": "eu-north-1", "aws_endpoint": address, "allow_http": "true"}
    assert found.file_io == {"s3.region": "eu-north-1", "s3.endpoint": address}
    assert locate(ELSEWHERE, "s3://b/p", "b/p").object_store == {}


@pytest.mark.parametrize("uri", ["", "fsspec+memory://x", "abfs://x@y/z"])
def test_what_no_library_reaches_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="'b/t' is a table on a filesystem on which tables cannot be read"):
        locate(ELSEWHERE, uri, "b/t")
