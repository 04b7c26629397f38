"""One small embedded cluster for all tests of this folder: starting one takes ten seconds."""

from collections.abc import Iterator

import pytest

from ray_itl.distributed.cluster import connect


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    with connect(num_cpus=4, object_store_bytes=120 * 2**20):
        yield
