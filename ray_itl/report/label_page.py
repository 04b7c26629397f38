"""The page on which people label rows: one at a time, by a click or a key, in one self-contained file of HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray_itl.report.document import assemble, inert
from ray_itl.report.figures import load_library
from ray_itl.report.table import holds_images, thumbnails
from ray_itl.text import clip, plain, plural

PICTURE_BYTES = 24_000_000
TEXT_CHARS = 16_000_000
_SIDES = (384, 256, 160, 96)
_SAMPLED = 24
_CELL_CHARS = (100_000, 20_000, 4_000, 1_000, 300)
_TAKEN = "osu"
"""Keys for other, skip and undo."""
_KEYS = "1234567890" + "".join(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in _TAKEN)


@dataclass(frozen=True, kw_only=True)
class LabelPage:
    """The rows to label. Text may come from anywhere: the page escapes all of it."""

    title: str
    """Line above the heading."""
    file: str
    """Name of the CSV file that the page saves, with the columns id and label."""
    folder: str
    """Where it belongs."""
    classes: Sequence[str]
    """The labels, as they are written into the file, each once."""
    other: str
    """What is written for a row of no class."""
    skip: str
    """What is written for a row that nobody can label."""
    ids: Sequence[str]
    """(n,) ids, as they are written into the file, each once."""
    columns: Mapping[str, Sequence[object]]
    """What there is to see: texts and encoded images, n values each."""
    places: Sequence[str]
    """(n,) where each row is in the pool."""
    given: Sequence[str]
    """(n,) labels there are already; empty for none."""
    key: str
    """Under which a browser keeps the work."""


def render_label_page(page: LabelPage) -> str:
    """Return the page as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own script run. Images are made small anew
    (see `table.thumbnails`), the smaller the more there are: together they take at most `PICTURE_BYTES`.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    pictures = {name: _pictures(values) for name, values in page.columns.items() if holds_images(values)}
    texts, are_cut = _texts({name: values for name, values in page.columns.items() if name not in pictures})
    rows = {
        "key": page.key,
        "file": page.file,
        "classes": list(page.classes),
        "keys": _keys(page.classes),
        "other": page.other,
        "skip": page.skip,
        "ids": list(page.ids),
        "places": [clip(plain(place), 300) for place in page.places],
        "given": list(page.given),
        "pictures": list(pictures.values()),
        "texts": [{"name": clip(plain(name), 60), "values": values} for name, values in texts.items()],
    }
    values = {
        "title": page.title,
        "headline": f"{plural(len(page.ids), 'row')} to label",
        "file": page.file,
        "folder": page.folder,
        "notes": _notes(page, pictures, are_cut),
        "rows": load_library("markupsafe").Markup(inert(json.dumps(rows, ensure_ascii=False))),
    }
    return assemble("label.html.j2", [], values, styles=["page.css", "label.css"], scripts=["label.js"])


def _keys(classes: Sequence[str]) -> list[str]:
    """Return a key for each class: digits and then letters, but of classes that are keys themselves these."""
    own = [name.lower() for name in classes]
    if len(set(own)) == len(own) and all(name in [*_KEYS] for name in own):
        return own
    return list(_KEYS[: len(classes)])


def _pictures(values: Sequence[object]) -> list[str]:
    """Return data URIs of images, as large as fit when there are so many; empty for what cannot be shown."""
    some = values[:: max(1, len(values) // _SAMPLED)]
    room = 0.9 * PICTURE_BYTES * len(some) / len(values)
    sizes = (side for side in _SIDES if sum(map(len, thumbnails(some, side, len(some), PICTURE_BYTES))) <= room)
    return thumbnails(values, next(sizes, _SIDES[-1]), len(values), PICTURE_BYTES)


def _texts(columns: Mapping[str, Sequence[object]]) -> tuple[dict[str, list[str]], bool]:
    """Return columns as texts that fit in `TEXT_CHARS`, and whether any is cut."""
    whole = {name: [plain(value) for value in values] for name, values in columns.items()}
    lengths = [len(text) for values in whole.values() for text in values]
    most = next((c for c in _CELL_CHARS if sum(min(n, c) for n in lengths) <= TEXT_CHARS), _CELL_CHARS[-1])
    cut = {name: [clip(text, most) for text in values] for name, values in whole.items()}
    return cut, any(length > most for length in lengths)


def _notes(page: LabelPage, pictures: Mapping[str, Sequence[str]], are_cut: bool) -> list[str]:
    notes = ["Long texts are cut short here: to_label.parquet has them in full."] if are_cut else []
    for name, shown in pictures.items():
        if missing := sum(not text for text in shown):
            notes.append(f"{plural(missing, 'image')} of {clip(plain(name), 60)} cannot be shown here.")
    if not page.columns:
        notes.append(
            "There is nothing to look at: the model reads vectors. Name columns of the pool to show: labels.columns."
        )
    return notes
