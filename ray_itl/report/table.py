"""The picks table, compact enough to embed whole."""

import json
from collections.abc import Iterable, Sequence
from numbers import Real

from ray_itl.report.data import ReportData
from ray_itl.report.embed import inert
from ray_itl.report.words import clip, plain

TABLE_BYTES = 2_200_000
_ADDRESS_CHARS = 120
_CELL_CHARS = (300, 120, 60, 30, 15)

Column = dict[str, object]


def table_text(data: ReportData) -> str:
    """The table for the page's script: columns of ready text, and a note on anything left out.

    Carried columns are cut shorter, and then dropped from the last, until the table fits in `TABLE_BYTES`.

    Returns:
        JSON, safe inside a script element: {"columns": [{"name", "number", "values"[, "index"]}], "note"}.
        The text of pick k is `values[k]`, or `values[index[k]]` where values repeat.
    """
    knowledge, address = _knowledge_columns(data), _address_columns(data)
    carried, any_cut = _carried_columns(data, TABLE_BYTES - _size(knowledge + address))
    note = _note(list(data.columns)[len(carried) :], any_cut=any_cut)
    return _json({"columns": knowledge + carried + address, "note": note})


def _knowledge_columns(data: ReportData) -> list[Column]:
    return [
        _column("Pick", (str(rank) for rank in range(1, data.num_picks + 1)), number=True),
        _column("Id", (clip(plain(value), _ADDRESS_CHARS) for value in data.ids)),
        _column(f"Gain ({data.gain_unit})", (f"{gain:.4g}" for gain in data.gains), number=True),
        _column("Cumulative", (f"{gain:.5g}" for gain in data.cumulative_gains), number=True),
    ]


def _address_columns(data: ReportData) -> list[Column]:
    return [
        _column("Nearest target", (clip(plain(value), _ADDRESS_CHARS) for value in data.nearest_ids)),
        _column("Cosine", (f"{cosine:.3f}" for cosine in data.nearest_cosines), number=True),
        _column("File", (_tail(plain(value)) for value in data.files)),
        _column("Row", (str(int(row)) for row in data.rows), number=True),
    ]


def _carried_columns(data: ReportData, room: int) -> tuple[list[Column], bool]:
    """As many carried columns as fit in `room` bytes, and whether any of their values is cut."""
    columns: list[Column] = []
    limit = 0
    for limit in _CELL_CHARS:
        columns = [_carried_column(name, values, limit) for name, values in data.columns.items()]
        if _size(columns) <= room:
            break
    while columns and _size(columns) > room:
        columns.pop()
    shown = list(data.columns.values())[: len(columns)]
    return columns, any(len(plain(value)) > limit for values in shown for value in values)


def _carried_column(name: str, values: Sequence[object], limit: int) -> Column:
    is_number = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    return _column(clip(plain(name), 60), (clip(plain(value), limit) for value in values), number=is_number)


def _column(name: str, texts: Iterable[str], *, number: bool = False) -> Column:
    texts = list(texts)
    distinct = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    column: Column = {"name": name, "number": number, "values": texts}
    if 2 * len(distinct) < len(texts):
        column |= {"values": list(distinct), "index": [distinct[text] for text in texts]}
    return column


def _tail(path: str) -> str:
    """The end of a long path: the part that tells files apart."""
    return path if len(path) <= _ADDRESS_CHARS else "…" + path[-_ADDRESS_CHARS + 1 :]


def _size(columns: list[Column]) -> int:
    return len(_json(columns).encode("utf-8", errors="replace"))


def _json(value: object) -> str:
    return inert(json.dumps(value, ensure_ascii=False))


def _note(dropped: list[str], *, any_cut: bool) -> str:
    notes = ["Long values are cut short here."] if any_cut else []
    if dropped:
        names = ", ".join(clip(plain(name), 60) for name in dropped)
        notes.append(f"Too large to show here: {clip(names, 600)}.")
    return " ".join([*notes, "selection.parquet has every value in full."] if notes else [])
