"""Encoders that are any function of the user's, from a list of values to an array."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ray_itl.core.features import UnitNorm
from ray_itl.embedding.encoder import Encoder, OnRows, unheard
from ray_itl.embedding.settings import EmbeddingSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.extras import load_by_name
from ray_itl.text import error_summary
from ray_itl.training.inputs import decode_values
from ray_itl.training.registry import check_options

Function = Callable[[list[Any]], Any]


class FunctionEncoder(Encoder):
    """What a function makes of a list of values: texts, bytes of images, lists of numbers.

    The function is made by a factory, once in every process; its weights are its own affair. That it is the same
    everywhere is judged by the text of the factory's module, its options, and `version` of the function, if it has one.
    """

    prepares_beside = True

    def __init__(
        self, name: str, options: Mapping[str, Any], how: EmbeddingSettings, function: Function, sample: pa.Array | None
    ) -> None:
        """Ask the function once, to see what it gives.

        Args:
            name: "module:factory".
            options: Keyword arguments of the factory.
            how: Batch size and norm.
            function: What the factory returned here.
            sample: Some rows of the column to embed; where it is empty, the function must say its `dim`.

        Raises:
            ConfigError: it fails, or gives something else than a row of numbers for each value.
        """
        self.name, self.options, self.how = name, dict(options), how
        self.window = how.batch_size
        self._function: Function | None = function
        self.version = str(getattr(function, "version", ""))
        self.code_digest = self._find_code()
        self.dim = 0
        self.dim = self._dim(function, sample)

    def identity(self) -> dict[str, str]:
        """Return what decides an embedding, as far as can be seen from outside."""
        return {
            "encoder": self.name,
            "model.options": json.dumps(self.options, sort_keys=True, default=str),
            "version of the function": self.version,
            "code of the module": self.code_digest,
            "embedding.unit_norm": repr(self.how.unit_norm),
            "embedding.batch_size": repr(self.how.batch_size),
        }

    def _find_code(self) -> str:
        """Return a digest of what makes it the function that it is, in this process."""
        return _code_digest(self.name)

    def prepare(self, column: pa.Array) -> list[Any]:
        """Return the values."""
        return decode_values(column)

    def embed(self, prepared: list[Any], on_rows: OnRows = unheard) -> np.ndarray:
        """Return what the function says of them."""
        if not prepared:
            return np.empty((0, self.dim), dtype=np.float32)
        function = self._here()
        try:
            rows = function(prepared)
        except Exception as error:  # whatever a function of the user's does
            raise ConfigError(
                f"model.name={self.name!r} failed on {len(prepared)} rows: {error_summary(error)}"
            ) from error
        checked = self._checked(rows, len(prepared))
        on_rows(len(prepared))
        return checked

    def _checked(self, rows: Any, count: int) -> np.ndarray:
        try:
            array = np.asarray(rows.detach().cpu() if hasattr(rows, "detach") else rows, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                self._refused(f"something that is no array of numbers ({error_summary(error)})")
            ) from error
        if array.ndim != 2 or len(array) != count or not array.shape[1]:
            raise ConfigError(self._refused(f"an array of shape {array.shape} for {count} rows"))
        if self.dim and array.shape[1] != self.dim:
            raise ConfigError(self._refused(f"{array.shape[1]} numbers a row after {self.dim} at first"))
        if self.how.unit_norm:
            array = UnitNorm()(torch.from_numpy(array)).numpy()
        return np.ascontiguousarray(array)

    def _refused(self, what: str) -> str:
        return f"model.name={self.name!r} gave {what}: it must give an array of one row of numbers for each value"

    def _dim(self, function: Function, sample: pa.Array | None) -> int:
        told = getattr(function, "dim", None)
        if isinstance(told, int) and told > 0:
            return told
        if sample is not None and len(sample):
            bad = self.undecodable(sample)
            good = [row for row in range(len(sample)) if row not in bad]
            if good:
                return self.embed(self.prepare(sample.take(pa.array(good[: self.window]))))[:1].shape[1]
        raise InputError(
            f"model.name={self.name!r}: there is no row to try it on; give a pool with a row that can be embedded, or "
            "the function an attribute dim, the numbers of an embedding"
        )

    def _here(self) -> Function:
        if (function := self._function) is None:
            if (found := self._find_code()) != self.code_digest:
                raise InputError(
                    f"model.name={self.name!r} is other code here ({found[:8]}) than where this work began "
                    f"({self.code_digest[:8]}): bring the same module to every machine"
                )
            function = self._function = make_function(self.name, self.options)
        return function

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_function": None}


def make_function(name: str, options: Mapping[str, Any]) -> Any:
    """Return what a factory makes.

    Raises:
        ConfigError: there is no such factory, or it does not take the options.
    """
    factory = load_by_name(name, {}, option="model.name")
    check_options(factory, name, options, option="model.options")
    return factory(**options)


def _code_digest(name: str) -> str:
    """Return a SHA-256 of the file of a factory's module; of its name where it has none."""
    factory = load_by_name(name, {}, option="model.name")
    try:
        source = Path(inspect.getfile(inspect.unwrap(factory))).read_bytes()
    except (OSError, TypeError):
        source = name.encode()
    return hashlib.sha256(source).hexdigest()
