"""Gradients of millions of numbers in a few thousand, so that inner products stay as they were, on average."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ray_itl.training.seeds import derive_seed


class GradientSketch:
    """A random linear map P from all d numbers of a gradient to p: a count sketch, which comes matrix by matrix.

    The gradient is one long vector, matrix after matrix, cut into blocks of p numbers. Every number gets a random sign,
    every block is turned by a random distance, and all blocks are added up. So P has one entry of +1 or -1 in each
    column, the signs independent; numbers of one block never meet, those of two blocks do with probability 1/p. Hence

        E <Pg, Pg'> = <g, g'>        Var <Pg, Pg'> <= (|g|^2 |g'|^2 + <g, g'>^2) / p

    as for a dense matrix of normal entries, which takes p d operations where this takes d: an inner product is off by
    at most sqrt(2 / p) |g| |g'|, in the root mean square. Where d <= p it is kept exactly. (Count sketch: Charikar,
    Chen and Farach-Colton, 2002.)
    """

    def __init__(self, sizes: Mapping[str, int], dim: int, seed: int) -> None:
        """Draw signs and distances, which are a function of the arguments alone.

        Args:
            sizes: Numbers of each matrix, by its name, in the order of the long vector.
            dim: p.
            seed: Any seed.
        """
        self.dim = dim
        self._starts: dict[str, int] = {}
        total = 0
        for name, size in sizes.items():
            self._starts[name] = total
            total += size
        draw = torch.Generator().manual_seed(derive_seed(seed, "projection", "gradient sketch"))
        self._shifts: list[int] = torch.randint(0, dim, (-(-total // dim),), generator=draw).tolist()
        self._signs = torch.randint(0, 2, (total,), generator=draw, dtype=torch.int8) * 2 - 1

    def to(self, device: torch.device | str) -> GradientSketch:
        """Move the signs to a device, in place."""
        self._signs = self._signs.to(device)
        return self

    def add(self, sums: Tensor, name: str, numbers: Tensor) -> None:
        """Add the part that one matrix has in the sketches of n gradients to these.

        Args:
            sums: n x p, changed in place.
            name: Of the matrix.
            numbers: Its gradients, n x size. O(n size).
        """
        start, size = self._starts[name], numbers.shape[1]
        signed = numbers * self._signs[start : start + size]
        done = 0
        while done < size:
            block, place = divmod(start + done, self.dim)
            place = (place + self._shifts[block]) % self.dim
            # Up to the end of the block, or to where turning it goes on at the beginning.
            count = min(size - done, self.dim - (start + done) % self.dim, self.dim - place)
            sums[:, place : place + count] += signed[:, done : done + count]
            done += count
