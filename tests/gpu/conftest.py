"""The device of a test: a CUDA device with marker `gpu`, skipped where there is none, and the CPU in the quick tier."""

import sys
from collections.abc import Callable

import pytest
import torch

_NONE = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, _NONE])])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def chunks_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let every store of features, and every copy of them, hand over so many rows at a time."""

    def set_rows(count: int) -> None:
        for name, module in [*sys.modules.items()]:
            if name.startswith("ray_itl.core.") and hasattr(module, "chunk_rows_for"):
                monkeypatch.setattr(module, "chunk_rows_for", lambda _: count)

    return set_rows
