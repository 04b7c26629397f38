"""Encoders as users write them: functions from a list of values to an array, small and the same everywhere."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

DIM = 8
asked: list[Any] = []
"""Every value that was embedded in this process, in order."""


class Words:
    """The mean of what each word is hashed to."""

    dim = DIM

    def __init__(self, salt: str = "", kill_after: int | None = None) -> None:
        self._salt, self._kill_after = salt, kill_after

    def __call__(self, values: Sequence[Any]) -> np.ndarray:
        asked.extend(values)
        if self._kill_after is not None and len(asked) > self._kill_after:
            os.kill(os.getpid(), 9)
        return np.array([self._row(str(value)) for value in values], dtype=np.float32).reshape(len(values), DIM)

    def _row(self, text: str) -> np.ndarray:
        if text == "infinite":
            return np.full(DIM, np.inf)
        words = [hashlib.sha256(f"{self._salt}{word}".encode()).digest() for word in text.split()]
        return np.mean([np.frombuffer(digest, dtype=np.int16)[:DIM] / 2**15 for digest in words], axis=0)


def words(salt: str = "") -> Words:
    """Return an encoder of words; another `salt` makes it another one."""
    return Words(salt)


def shades() -> Any:
    """Return an encoder of encoded images: how bright each is, in eight columns."""

    def embed(values: Sequence[bytes]) -> np.ndarray:
        asked.extend(values)
        images = [Image.open(io.BytesIO(value)).convert("L").resize((DIM, 1)) for value in values]
        return np.array([np.asarray(image)[0] / 255 for image in images], dtype=np.float32).reshape(len(values), DIM)

    embed.dim = DIM  # type: ignore[attr-defined]
    return embed


def deadly(kill_after: int) -> Words:
    """Return one that kills its process once it has embedded so many values."""
    return Words(kill_after=kill_after)


def failing() -> Any:
    """Return one that never works."""

    def fail(_: Sequence[Any]) -> np.ndarray:
        raise RuntimeError("out of order")

    fail.dim = DIM  # type: ignore[attr-defined]
    return fail
