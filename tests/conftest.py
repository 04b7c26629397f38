"""Fixtures of all tests."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.fake_hub import FakeHub
from tests.helpers import SMALL_BLOCKS

settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")  # the same examples every time, however busy the machine; slow tests draw others
# Ray starts its workers at a niceness of 15: beside other work on the machine they would get a hundredth of a core.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """One thread: the matrices are small, and thread start-up would be most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _ray_starts_where_a_marker_says_so(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Ray takes ten seconds or more, which quick tests cannot have by accident."""
    marks = {mark.name for mark in request.node.iter_markers()}
    if not marks & {"cluster", "round_trip", "slow"} and "ray" in sys.modules:
        monkeypatch.setattr("ray.init", _refuse)


def _refuse(*_: Any, **__: Any) -> None:
    pytest.fail("this test starts Ray: mark it with pytest.mark.cluster")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One small embedded cluster for all tests of a process that need any: starting one takes ten seconds."""
    from ray_itl.cluster.connection import connect  # loads Ray, which most tests need not

    with connect("local", num_cpus=4, object_store_bytes=120 * 2**20):
        yield


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make selections take many passes over small pools."""
    monkeypatch.setattr("ray_itl.core.greedy.BlockSchedule", lambda: SMALL_BLOCKS)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """Hugging Face, in memory, with a token that may write."""
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_0123456789")
    return fake
