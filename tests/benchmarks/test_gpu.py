import warnings

import pytest
import torch

from benchmarks.clocked_pool import PROPOSALS, START, VERIFICATION
from benchmarks.gpu import Synchronisations, cuda_or_cpu, gpu_table, run_gpu
from benchmarks.settings import GpuSettings
from ray_itl.errors import ConfigError

SMALL = GpuSettings(device="cpu", num_rows=13_000, dim=16, num_targets=8, n=12, repeats=1)


def test_passes_are_told_beside_what_the_device_does() -> None:
    result = run_gpu(SMALL, 0, lambda _: None)
    assert [rate.name for rate in result.engine] == [START, VERIFICATION, PROPOSALS]
    assert [rate.name for rate in result.bare] == ["copy", "float32", "bfloat16", "int8"]
    assert min(rate.seconds for rate in (*result.bare, *result.engine)) > 0
    assert [rate.waits for rate in result.engine] == [0, 0, 0]  # nobody waits for the CPU
    copy, float32, bfloat16, int8 = (rate.num_bytes for rate in result.bare)
    assert copy == 2 * float32 == 4 * bfloat16 == 8 * int8 == 2 * 4 * 13_000 * 16
    table = gpu_table(result, SMALL)
    assert "| verification | " in table
    assert "of bfloat16 products" in table


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"gpu.device='?{name}'? cannot be used"):
        cuda_or_cpu(name)


def test_without_a_cuda_device_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^gpu.device=cuda cannot be used: torch .* sees 0 CUDA devices here$"):
        run_gpu(GpuSettings(), 0, lambda _: None)


def test_rows_that_take_no_pass_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^gpu.num_rows=12288 cannot be used: give more than 12,288"):
        GpuSettings(num_rows=12_288)


def test_waits_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    waits = Synchronisations(torch.device("cuda"))
    with waits.watch("outer"):
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        with waits.watch("inner"):
            for _ in range(2):
                warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert waits.counts == {"inner": 2, "outer": 1}
    assert modes == ["warn", "warn", 0, 0]
