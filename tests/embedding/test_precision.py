"""What passes for the same in fewer digits."""

import numpy as np
import pytest
import torch

from ray_itl.embedding.precision import device_here, difference, has_bfloat16
from ray_itl.errors import ConfigError


def test_the_difference_is_the_largest_cosine_distance() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert difference(rows, rows) == (3, 0.0)
    turned = np.array([[1.0, 0.1], [0.0, 5.0], [0.0, 0.0]])
    found = difference(rows, turned)
    assert found.largest == pytest.approx(1 - 1 / np.sqrt(1.01))
    assert not found.is_small
    assert difference(rows, turned + np.array([[0, -0.09], [0, 0], [0, 0]])).is_small


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_number_is_far_away(broken: float) -> None:
    rows = np.ones((2, 2))
    assert not difference(rows, np.array([[1.0, 1.0], [1.0, broken]])).is_small
    assert not difference(rows, np.zeros((2, 2))).is_small


def test_processors_tell_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, expected in (({}, False), ({"avx512_bf16": True}, True), ({"avx2": True, "amx_tile": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=told: told, raising=False)
        assert has_bfloat16("cpu") is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bfloat16("cpu")


def test_a_gpu_is_had_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_here("auto") == device_here("cpu") == "cpu"
    assert not has_bfloat16("cuda")
    with pytest.raises(ConfigError, match=r"cluster\.gpus_per_worker"):
        device_here("cuda")
