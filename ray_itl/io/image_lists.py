"""The images of one folder as a list that travels with the pool.

A folder may hold a million images. So they are listed once, where the pool is planned, and everyone who reads rows of
it has the same list: an image that arrives later is not in it, and one that is replaced does not fit it any more.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from ray_itl.io.image_files import images_in
from ray_itl.io.walk import Stamp

_LISTS_KEPT = 64


class ListedImage(NamedTuple):
    """One image, as it was when the folder was listed."""

    name: str
    """Within the folder."""
    size: int
    modified: int | None
    """In nanoseconds since 1970; None where the filesystem does not tell."""


@dataclass(frozen=True)
class ImageList:
    """The images of one folder, those of folders below left out, by their names. Small: some 25 bytes an image."""

    packed: str
    """As JSON, compressed, in base64."""

    @classmethod
    def of(cls, stamps: Mapping[str, Stamp]) -> ImageList:
        """List images by their names."""
        names = sorted(stamps)
        columns = [names, [stamps[name].size for name in names], [stamps[name].modified for name in names]]
        text = json.dumps(columns, separators=(",", ":"))
        return cls(base64.b64encode(zlib.compress(text.encode())).decode())

    @property
    def images(self) -> list[ListedImage]:
        """All images, in order; not to be changed."""
        return _images_of(self.packed)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names, sizes and times of the images: none of them is read for it."""
        return sha256(_text_of(self.packed)).hexdigest()


def image_lists(stamps: Mapping[str, Stamp]) -> dict[str, ImageList]:
    """Return the images of each folder (see `images_in`), from the paths of all."""
    folders: dict[str, dict[str, Stamp]] = {}
    for path, stamp in stamps.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(images_in(folder), {})[name] = stamp
    return {folder: ImageList.of(found) for folder, found in folders.items()}


def _text_of(packed: str) -> bytes:
    return zlib.decompress(base64.b64decode(packed))


@lru_cache(maxsize=_LISTS_KEPT)
def _images_of(packed: str) -> list[ListedImage]:
    return [ListedImage(*row) for row in zip(*json.loads(_text_of(packed)), strict=True)]
