"""Independent random streams from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed below 2^63 for a purpose ("batches", "head", a worker's rank), unlike that of any other purpose."""
    words = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(sha256(words.encode()).digest()[:8], "big") >> 1


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Draw from this seed on the CPU within the block; afterwards torch's global random state is as it was.

    Not for several threads at once, which share that state.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's only; torch.manual_seed would touch GPUs
        yield
