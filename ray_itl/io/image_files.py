"""Which files are images, by their names, and what the images of one folder are called together."""

from __future__ import annotations

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_METADATA = ("metadata.jsonl", "metadata.csv")
"""What Hugging Face's imagefolder reads beside images."""


def is_image(path: str) -> bool:
    """Whether a file's name says that it is an image."""
    return path.lower().endswith(_SUFFIXES)


def is_about_images(path: str) -> bool:
    """Whether a file of this name tells of the images beside it, rather than holding rows of its own."""
    return path.rpartition("/")[2].lower() in _METADATA


def images_in(folder: str) -> str:
    """Return the name of the images in a folder, by its path relative to the pool: "cats/", of the root "./"."""
    return f"{folder or '.'}/"


def is_image_folder(path: str) -> bool:
    """Whether the path of a file of a pool stands for the images of a folder."""
    return path.endswith("/")


def folder_of(images: str) -> str:
    """Return the folder of what `images_in` names; "" for the root."""
    return "" if images == "./" else images.removesuffix("/")
