"""The table of picks with small pictures, compact enough to be inside the page whole."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import cast

from ray_itl.errors import InputError
from ray_itl.images import read_image
from ray_itl.report.document import inert
from ray_itl.report.figures import load_library
from ray_itl.report.selection_data import ReportData
from ray_itl.text import clip, plain

THUMBNAIL_BYTES = 1_500_000
MAX_THUMBNAILS = 200
_SIDE = 96
_MAX_PIXELS = 50_000_000
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
TABLE_BYTES = 2_200_000
_ADDRESS_CHARS = 120
_NAME_CHARS = 40
_CELL_CHARS = (300, 120, 60, 30, 15)
_MANY_PICKS = 2000
_NEAREST = "Nearest target"
Column = dict[str, object]


def table_text(data: ReportData) -> str:
    """Return the table for the page's script: columns of ready text, and a note on anything left out.

    Carried columns are cut shorter, and then dropped from the last, until the table fits in `TABLE_BYTES`.

    Returns:
        JSON, safe inside a script element: {"columns": [{"name", "number", "values"[, "index"][, "image" or
        "content"]}], "note"}. The text of pick k is `values[k]`, or `values[index[k]]` where values repeat;
        that of an image is a data URI, or empty.
    """
    knowledge, nearest = _knowledge_columns(data), _nearest_columns(data)
    address = _reason_columns(data) + _address_columns(data)
    pictured = [name for name, values in data.columns.items() if holds_images(values)]
    pictures = [_pictures(name, data.columns[name]) for name in pictured[:1]]
    written = {name: values for name, values in data.columns.items() if name not in pictured}
    texts = [column for column in nearest if "image" not in column]
    carried, any_cut = _carried_columns(written, TABLE_BYTES - _size(knowledge + texts + address))
    note = _note([*pictured[1:], *list(written)[len(carried) :]], any_cut=any_cut, pictures=pictures)
    columns = knowledge[:2] + pictures + knowledge[2:] + carried + nearest + address
    return _json({"columns": columns, "note": note})


def thumbnails(
    values: Sequence[object], side: int = _SIDE, most: int = MAX_THUMBNAILS, most_bytes: int = THUMBNAIL_BYTES
) -> list[str]:
    """Return a data URI of each image at most `side` pixels wide and high, and "" where there is none to show.

    Only the first `most` are made, and only as many as fit in `most_bytes`. Every image is decoded as for models (see
    `images.read_image`) and encoded anew (as PNG or JPEG), so that nothing of the file but its pixels gets into the
    page; what cannot be decoded, or has more than 50 million pixels, is left out. Without Pillow there are none.
    """
    shown = [""] * len(values)
    room = most_bytes
    try:
        load_library("PIL.Image")
    except ImportError:
        return shown
    for k, value in enumerate(values[:most]):
        content = _content(value)
        text = _thumbnail(content, side) if content and _looks_like_an_image(content) else ""
        room -= len(text)
        if room < 0:
            break
        shown[k] = text
    return shown


def holds_images(values: Sequence[object]) -> bool:
    """Whether a column is one of encoded images: bytes, or structs with `bytes`; the first few that are set tell."""
    some = [content for value in values[:200] if (content := _content(value))][:20]
    return bool(some) and all(_looks_like_an_image(content) for content in some)


def _knowledge_columns(data: ReportData) -> list[Column]:
    return [
        _column("Pick", (str(rank) for rank in range(1, data.num_picks + 1)), number=True),
        _column("Id", (clip(plain(value), _ADDRESS_CHARS) for value in data.ids)),
        _column(f"Gain ({data.gain_unit})", (f"{gain:.4g}" for gain in data.gains), number=True),
        _column("Cumulative", (f"{gain:.5g}" for gain in data.cumulative_gains), number=True),
    ]


def _address_columns(data: ReportData) -> list[Column]:
    return [
        _column("File", (_tail(plain(value)) for value in data.files)),
        _column("Row", (str(int(row)) for row in data.rows), number=True),
    ]


def _nearest_columns(data: ReportData) -> list[Column]:
    """Show the target nearest to each pick, where there is something to see of it."""
    values = data.nearest_shown
    if not len(values):
        return []
    if not holds_images(values):
        return [_column(_NEAREST, (clip(plain(value), _CELL_CHARS[1]) for value in values)) | {"content": True}]
    distinct = list(dict.fromkeys(content for value in values if (content := _content(value))))
    pictures = dict(zip(distinct, thumbnails(distinct), strict=True))
    return [_column(_NEAREST, (pictures.get(_content(value) or b"", "") for value in values)) | {"image": True}]


def _reason_columns(data: ReportData) -> list[Column]:
    """Say why rows were picked, or, where that was not asked for, the target nearest to each."""
    if data.reasons is None:
        return [
            _column(
                f"{_NEAREST}, id" if len(data.nearest_shown) else _NEAREST,
                (clip(plain(value), _ADDRESS_CHARS) for value in data.nearest_ids),
            ),
            _column("Cosine", (f"{cosine:.3f}" for cosine in data.nearest_cosines), number=True),
        ]
    runners, texts = [reason.runner_up for reason in data.reasons], _target_texts(data)
    # Of many picks the foremost target only: three names each would leave no room for the rows' text.
    most = 1 if data.num_picks > _MANY_PICKS else None
    return [
        _column("Nearest targets (cosine)", (_named(r.nearest_targets[:most], "{:.2f}", texts) for r in data.reasons)),
        _column(
            "Says most about (share of gain)",
            (_named(r.informed_targets[:most], "{:.0%}", texts) for r in data.reasons),
        ),
        _column(
            "Most like earlier pick (cosine)",
            (_named([r.nearest_earlier] if r.nearest_earlier else [], "{:.3f}", {}) for r in data.reasons),
        ),
        _column("Runner-up", ("" if r is None else clip(plain(r[0]), _NAME_CHARS) for r in runners)),
        _column("Ahead of it by", ("" if r is None else f"{r[1]:.2g}" for r in runners), number=True),
    ]


def _target_texts(data: ReportData) -> dict[object, str]:
    """Return the texts of targets by their ids, as far as they are shown."""
    left = data.targets_left
    shown = {} if left is None else left.shown
    return {left.ids[place]: text for place, text in shown.items() if isinstance(text, str) and left is not None}


def _named(pairs: Sequence[tuple[object, float]], form: str, texts: Mapping[object, str]) -> str:
    """Return names with their values: a text where there is one, else the id."""
    return ", ".join(
        f"{clip(plain(texts.get(name, name)), _NAME_CHARS)} ({form.format(value)})" for name, value in pairs
    )


def _pictures(name: str, values: Sequence[object]) -> Column:
    return {"name": clip(plain(name), 60), "number": False, "image": True, "values": thumbnails(values)}


def _carried_columns(written: Mapping[str, Sequence[object]], room: int) -> tuple[list[Column], bool]:
    """Return as many carried columns as fit in `room` bytes, and whether any of their values is cut."""
    columns: list[Column] = []
    limit = 0
    for limit in _CELL_CHARS:
        columns = [_carried_column(name, values, limit) for name, values in written.items()]
        if _size(columns) <= room:
            break
    while columns and _size(columns) > room:
        columns.pop()
    shown = list(written.values())[: len(columns)]
    return columns, any(len(plain(value)) > limit for values in shown for value in values)


def _carried_column(name: str, values: Sequence[object], limit: int) -> Column:
    is_number = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    column = _column(clip(plain(name), 60), (clip(plain(value), limit) for value in values), number=is_number)
    is_long = any(len(plain(value)) > _NAME_CHARS for value in values)
    return column | {"content": True} if is_long else column


def _column(name: str, texts: Iterable[str], *, number: bool = False) -> Column:
    texts = list(texts)
    distinct = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    column: Column = {"name": name, "number": number, "values": texts}
    if 2 * len(distinct) < len(texts):
        column |= {"values": list(distinct), "index": [distinct[text] for text in texts]}
    return column


def _tail(path: str) -> str:
    """Return the end of a long path: the part that tells files apart."""
    return path if len(path) <= _ADDRESS_CHARS else "…" + path[-_ADDRESS_CHARS + 1 :]


def _size(columns: list[Column]) -> int:
    return len(_json(columns).encode("utf-8", errors="replace"))


def _json(value: object) -> str:
    return inert(json.dumps(value, ensure_ascii=False))


def _note(dropped: list[str], *, any_cut: bool, pictures: list[Column]) -> str:
    notes = ["Long values are cut short here."] if any_cut else []
    for values in (cast(list[str], column["values"]) for column in pictures):
        shown = sum(value != "" for value in values)
        if shown < len(values):
            notes.append(f"{shown:,} of {len(values):,} images are shown.")
    if dropped:
        names = ", ".join(clip(plain(name), 60) for name in dropped)
        notes.append(f"Too large to show here: {clip(names, 600)}.")
    if any_cut or dropped:
        notes.append("selection.parquet has every value in full.")
    return " ".join(notes)


def _content(value: object) -> bytes | None:
    content = value.get("bytes") if isinstance(value, Mapping) else value
    return content if isinstance(content, bytes) else None


def _looks_like_an_image(content: bytes) -> bool:
    return content.startswith(_BEGINNINGS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _thumbnail(content: bytes, side: int) -> str:
    try:
        small = read_image(content, near=(2 * side, 2 * side), most_pixels=_MAX_PIXELS)
    except InputError:  # the page goes on without
        return ""
    small.thumbnail((side, side))
    stream = io.BytesIO()
    kind = "png" if small.width * small.height <= 1024 else "jpeg"
    small.save(stream, kind, **({"quality": 80} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
