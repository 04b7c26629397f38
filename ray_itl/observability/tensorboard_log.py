"""A run as event files for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_itl.extras import load_extra
from ray_itl.observability.run_log import Point, State


class TensorBoardLog:
    """A folder of event files; a resumed run adds a file to the same folder, which TensorBoard shows as one run."""

    name = "TensorBoard"

    def __init__(self, folder: Path, joined: Mapping[str, str]) -> None:
        """Name the folder; `joined` is what `begin` returned earlier, or empty.

        MissingExtraError where tensorboardX is not installed.
        """
        self._library: Any = load_extra("tensorboardX", "tracking.tensorboard_dir", "tensorboard")
        self._folder = folder
        self._joined = dict(joined)
        self._opened: Any = None

    @property
    def place(self) -> Mapping[str, str]:
        """The folder."""
        return {"folder": str(self._folder)}

    def begin(self, options: Mapping[str, str], tags: Mapping[str, str]) -> Mapping[str, str]:
        """Write options and tags as a table, unless the folder has them."""
        if self._joined != self.place:
            rows = "\n".join(f"| {name} | {_in_table(value)} |" for name, value in {**tags, **options}.items())
            self._writer.add_text("options", f"| option | value |\n|---|---|\n{rows}")
            self._writer.flush()
        return self.place

    def log(self, points: Sequence[Point]) -> None:
        """Write figures and make them visible."""
        for step, values in points:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def attach(self, path: Path) -> None:
        """Do nothing: TensorBoard keeps no files, and the tags say where they are."""

    def end(self, state: State) -> None:
        """Close the file, where one was begun; TensorBoard shows no states."""
        del state
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _writer(self) -> Any:
        if self._opened is None:
            # Files are named by the second: without a suffix, a resumed run could overwrite that of the try before.
            self._opened = self._library.SummaryWriter(str(self._folder), filename_suffix=f".{time.time_ns()}")
        return self._opened


def _in_table(text: str) -> str:
    """Return text in a form that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|" else " " if c == "\n" else c for c in text)
