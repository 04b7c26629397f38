"""Digits as examples, workers in threads, and a model that kills its own process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.datasets import load_digits
from torch import Tensor, distributed

from ray_itl.training.examples import Examples
from ray_itl.training.learner import Inputs
from ray_itl.training.models.classifiers import Mlp
from ray_itl.training.registry import ModelSpec

MLP = ModelSpec("mlp", {"input_dim": 64, "classes": 10, "hidden": [32]})
CNN = ModelSpec("mnist_cnn", {"side": 8, "widths": [8, 8, 16], "features": 32})


def vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    """Rows as a column of lists of their own number type."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


@cache
def digits(spec_name: str = "mlp") -> Examples:
    """All 1797 digits, encoded for MLP or CNN, in a fixed random order."""
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(labels))
    spec = {"mlp": MLP, "mnist_cnn": CNN}[spec_name]
    inputs = spec.build(0).encode(vectors((images[order] / 16).astype(np.float32)))
    return Examples(inputs, torch.from_numpy(labels[order]))


class ThreadWorkers:
    """One of several workers that are threads of this process."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, table: list[list[Tensor]]) -> None:
        self.rank, self.size = rank, size
        self._barrier, self._table = barrier, table

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        self._table[self.rank] = [tensor.clone() for tensor in tensors]
        self._barrier.wait()
        for k, tensor in enumerate(tensors):
            tensor.copy_(torch.stack([part[k] for part in self._table]).sum(dim=0))
        self._barrier.wait()


def on_threads(size: int, work: Callable[[ThreadWorkers], Any]) -> list[Any]:
    """Run `work` on so many workers at once; return what each returned."""
    barrier, table = threading.Barrier(size, timeout=60), [[] for _ in range(size)]
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadWorkers(rank, size, barrier, table))
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class MortalMlp(Mlp):
    """Kills its worker in the midst of training, as often as a folder has files `kill-RANK-*` for it."""

    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self.folder = Path(folder)
        self.calls = 0

    def features(self, inputs: Inputs) -> Tensor:
        self.calls += 1
        if distributed.is_initialized() and self.calls == 5:
            for order in sorted(self.folder.glob(f"kill-{distributed.get_rank()}-*"))[:1]:
                order.rename(order.with_name(order.name.replace("kill", "killed")))
                os.kill(os.getpid(), signal.SIGKILL)
        return super().features(inputs)
