"""Messages arrive equal, writable, and independent of what was sent. No cluster."""

import numpy as np
import pytest
import torch

from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.messages import RowBatch
from ray_itl.distributed.codec import pack, unpack

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 5), (3,), (200, 70)])
def test_tensors_arrive_equal_and_writable(dtype, shape):
    tensor = (torch.rand(shape) * 100).to(dtype)
    packed = pack({"a": tensor, "b": [tensor]})
    for buffer in packed.buffers:
        buffer.flags.writeable = False  # as Ray hands it over
    received = unpack(packed)["a"]
    assert received.dtype == dtype
    assert torch.equal(received, tensor)
    received += 1
    assert received.numel() == 0 or not torch.equal(received, tensor)


def test_views_travel_without_their_storage_and_large_buffers_are_not_copied():
    whole = torch.rand(1000, 1000)
    assert pack(whole[:10]).num_bytes < 41_000
    assert pack(whole.mT[:10]).num_bytes < 41_000
    buffer = pack(whole).buffers[0]
    assert buffer.__array_interface__["data"][0] == whole.data_ptr()


def test_records_of_text_ids_arrive():
    ids = np.array(["a", "a much longer name than fits inline"], dtype=np.dtypes.StringDType())
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    sent = RowBatch(np.array([4, 7]), ids, half, (torch.ones(2), torch.ones(2)), torch.ones(2), torch.zeros(2))
    received, rule = unpack(pack((sent, InformationGain(0.3))))
    assert received.ids.tolist() == ids.tolist()
    assert received.ids.dtype == ids.dtype
    assert received.positions.tolist() == [4, 7]
    assert rule == InformationGain(0.3)
