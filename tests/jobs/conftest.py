"""One head node for all tests of submitted jobs."""

from collections.abc import Iterator

import pytest

from tests.jobs.head import Head, running_head


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A head node with its own ports, folder and token; only this process and its children are ended."""
    with running_head() as running:
        yield running
