"""Which kind a file of a pool is."""

from __future__ import annotations

from ray_itl.io.image_files import is_image_folder
from ray_itl.io.text_files import text_format
from ray_itl.sources.files.arrow import ArrowKind, is_arrow
from ray_itl.sources.files.fragment import FragmentKind
from ray_itl.sources.files.images import ImagesKind
from ray_itl.sources.files.opened import FileKind
from ray_itl.sources.files.parquet import ParquetKind
from ray_itl.sources.files.text import TextKind
from ray_itl.sources.tables.lance import is_fragment
from ray_itl.sources.tables.place import Place


def kind_of(place: Place, path: str) -> FileKind:
    """Return the kind of a file by its path relative to the root: what is no other kind by its name is Parquet."""
    if is_fragment(place, path):
        return FragmentKind()
    if is_image_folder(path):
        return ImagesKind()
    if is_arrow(path):
        return ArrowKind()
    return TextKind() if text_format(path) else ParquetKind()
