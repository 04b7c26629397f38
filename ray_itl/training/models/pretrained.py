"""Pretrained models of transformers: read without bars and tables on the streams, and whole or not at all."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

_MAY_BE_MISSING = "pooler."
"""Part of names of weights that no embedding of ours uses, and that many checkpoints lack."""


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep progress bars and reports of transformers and the Hugging Face hub off the streams; what was set returns.

    Logs are read by programs, and workers on a cluster have no one to look at a bar. ImportError without transformers.
    """
    from transformers.utils import logging

    had_bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # of the hub, too
    logging.set_verbosity_error()
    try:
        # Bars that no switch turns off, as that over the tensors of a GGUF file, are written to whatever stderr is.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def read_model(factory: Any, options: Mapping[str, Any]) -> Any:
    """Return a model of transformers with all of its weights.

    Args:
        factory: A class with `from_pretrained`, such as AutoModel.
        options: Its keyword arguments.

    Raises:
        ValueError: weights that the model has and its files lack: they would be drawn at random.
        OSError: the files cannot be had.
    """
    model, found = factory.from_pretrained(**options, output_loading_info=True)
    missing = sorted(name for name in found["missing_keys"] if _MAY_BE_MISSING not in name)
    if missing:
        raise ValueError(f"its files lack {len(missing)} weights of the model, as {missing[0]}")
    return model
