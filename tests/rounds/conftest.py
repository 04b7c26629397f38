"""Fixtures of the tests of rounds."""

import pytest
import torch

from ray_itl.rounds.group_settings import DataSettings
from tests.rounds.helpers import write_digits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    """Digits to pick from, as files."""
    return write_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One thread, also after a test whose trainer took more."""
    torch.set_num_threads(1)
