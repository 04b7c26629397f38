"""A function that a caller holds, in place of the name of an encoder: what it is called, and whether it is known again.

Embeddings are kept by what makes them. Of a function of a module that is its name and the module's text, as of a
factory that an option names. Any other one, such as a lambda, a method or what a notebook defines, may be another one
tomorrow under the same name: unless it has a `version`, which is its author's word, its embeddings are kept for one
call alone.
"""

from __future__ import annotations

import hashlib
import inspect
import secrets
import sys
from pathlib import Path
from typing import Any, Self

from ray_itl.embedding.functions import Function, FunctionEncoder
from ray_itl.io.temporary import TemporaryFolder


class HeldFunction:
    """A function from a list of values to an array; used in `with`, after whose last block its own folder is gone."""

    def __init__(self, function: Function) -> None:
        """Take the function; it is not called."""
        self.function = function
        kind = function if hasattr(function, "__qualname__") else type(function)
        where = kind.__module__
        self.name = f"<{kind.__qualname__} of {where} in memory>"
        code, version = _code_of(function), getattr(function, "version", "")
        self.lasts = code is not None or bool(version)
        """Whether it is the same function wherever it bears this name, with this digest."""
        self.digest = hashlib.sha256(code or (b"" if version else secrets.token_bytes(32))).hexdigest()
        self._folder: TemporaryFolder | None = None
        self._depth = 0

    @property
    def location(self) -> str | None:
        """The folder where its embeddings are kept; None: where those of all encoders are."""
        if self.lasts:
            return None
        if self._folder is None:
            self._folder = TemporaryFolder("embeddings")
        return str(self._folder.path)

    @property
    def words(self) -> str:
        """What people should know of it."""
        if self.lasts:
            return f"embedding by {self.name}"
        return (
            f"embedding by {self.name}; its embeddings are kept for this call alone, since it could not be told from "
            "another function: define it in a module, or give it an attribute version, to have them kept"
        )

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth and self._folder is not None:
            self._folder.remove()
            self._folder = None


class HeldFunctionEncoder(FunctionEncoder):
    """An encoder that is a held function. It pickles with the function, by reference where that is of a module."""

    def __init__(self, held: HeldFunction, *args: Any) -> None:
        """Take the function, and how and on what it is tried as `FunctionEncoder` does."""
        self._digest = held.digest
        super().__init__(held.name, {}, *args)

    def _find_code(self) -> str:
        return self._digest

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)


def _code_of(function: Any) -> bytes | None:
    """Return the text of the module whose function it is, under its own name; None for any other."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    name = getattr(function, "__qualname__", "")
    if module is None or module.__name__ == "__main__" or getattr(module, name, None) is not function:
        return None
    try:
        return Path(inspect.getfile(inspect.unwrap(function))).read_bytes()
    except (OSError, TypeError):
        return None
