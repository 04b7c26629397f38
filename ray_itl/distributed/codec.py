"""Packing messages for the trip between driver and shards.

Ray copies a torch tensor through a pickled byte string (and a view with all of its storage), but hands numpy arrays
over in shared memory. So tensors travel as numpy buffers next to a small pickle, and are copied once on arrival:
what Ray shares is read-only, and a view would keep the shared object alive.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """An object as a pickle and the buffers it refers to."""

    head: bytes
    buffers: tuple[np.ndarray, ...]
    """uint8 arrays."""

    @property
    def num_bytes(self) -> int:
        """Size of everything."""
        return len(self.head) + sum(buffer.nbytes for buffer in self.buffers)


def pack(message: Any) -> Packed:
    """Pack any picklable object; large tensors and arrays inside are not copied. Tensors arrive on the CPU."""
    stream = io.BytesIO()
    buffers: list[np.ndarray] = []
    _Pickler(stream, buffers).dump(message)
    return Packed(stream.getvalue(), tuple(buffers))


def unpack(packed: Packed) -> Any:
    """Return an equal object, which owns its memory and may be written to. One copy."""
    return pickle.loads(packed.head, buffers=[bytearray(buffer) for buffer in packed.buffers])


class _Pickler(cloudpickle.Pickler):
    """Pickles by value what workers cannot import, tensors as arrays, and large buffers out of band."""

    def __init__(self, stream: io.BytesIO, buffers: list[np.ndarray]) -> None:
        super().__init__(stream, protocol=5, buffer_callback=lambda b: _take(b, buffers))

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Tensor:
            return _tensor, (_array(obj), str(obj.dtype).removeprefix("torch."))
        return super().reducer_override(obj)


def _take(buffer: pickle.PickleBuffer, buffers: list[np.ndarray]) -> bool:
    """Take a buffer out of band unless it is small; True tells pickle to keep it in the stream."""
    raw = np.frombuffer(buffer.raw(), dtype=np.uint8)
    if raw.nbytes <= _IN_BAND_BYTES:
        return True
    buffers.append(raw)
    return False


_IN_BAND_BYTES = 4096
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _array(tensor: Tensor) -> np.ndarray:
    """Return the tensor's bits as integers: numpy has no bfloat16."""
    whole = tensor.detach().cpu().contiguous()
    return whole.view(_BITS[whole.element_size()]).numpy()


def _tensor(array: np.ndarray, dtype: str) -> Tensor:
    writable = array if array.flags.writeable else array.copy()
    return torch.from_numpy(writable).view(getattr(torch, dtype))
