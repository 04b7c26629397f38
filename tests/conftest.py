"""Fixtures of all tests."""

from collections.abc import Iterator

import pytest
import torch

from tests.helpers import SMALL_BLOCKS


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """One thread: the matrices are small, and thread start-up would be most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make selections take many passes over small pools."""
    monkeypatch.setattr("ray_itl.core.greedy.BlockSchedule", lambda: SMALL_BLOCKS)
