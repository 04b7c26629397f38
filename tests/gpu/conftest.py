"""The device of a test: a CUDA device with marker `gpu`, skipped where there is none, and the CPU in the quick tier."""

import pytest
import torch

_NONE = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, _NONE])])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)
