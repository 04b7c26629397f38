"""Copies of rows among those that a shard proposes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_KEPT = 2


def without_copies(facts: Sequence[Tensor], ids: np.ndarray) -> np.ndarray:
    """Return the places, ascending, of at most two (of the smallest ids) of rows that agree in all facts.

    Args:
        facts: Each k numbers, compared in float32.
        ids: k.

    O(k log k).
    """
    key = torch.stack([fact.to(torch.float64) for fact in facts]).to(torch.float32).cpu().numpy()
    by_id = np.argsort(ids, kind="stable")
    order = np.lexsort((np.argsort(by_id, kind="stable"), *key))
    new = np.ones(len(order), dtype=bool)
    new[_KEPT:] = (key[:, order[_KEPT:]] != key[:, order[:-_KEPT]]).any(axis=0)
    return np.sort(order[new], kind="stable")
