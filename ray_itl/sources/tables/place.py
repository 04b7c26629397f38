"""Where the files of a pool are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ray_itl.io.image_lists import ImageList
from ray_itl.sources.tables.version import TableVersion


class Place(Protocol):
    """A pool's listing, or its manifest."""

    @property
    def uri(self) -> str:
        """Which filesystem it is."""
        ...

    @property
    def root(self) -> str:
        """What paths are relative to."""
        ...

    @property
    def tables(self) -> Sequence[TableVersion]:
        """The tables that some are of."""
        ...

    @property
    def images(self) -> Mapping[str, ImageList]:
        """The images of each folder of images, by the name that stands for them among the files."""
        ...

    @property
    def image_columns(self) -> Mapping[str, str]:
        """The file that gives columns to them, if there is one, by the same name."""
        ...
