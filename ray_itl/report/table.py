"""The picks table, compact enough to embed whole."""

import json
from collections.abc import Iterable
from numbers import Real

from ray_itl.report.data import ReportData
from ray_itl.report.words import clip, plain

TABLE_BYTES = 2_200_000
_ADDRESS_CHARS = 120
_CELL_CHARS = (300, 120, 60, 30, 15)

Column = dict[str, object]


def table_payload(data: ReportData) -> dict[str, object]:
    """The table for the page's script: columns of ready text, and a note on anything left out.

    Carried columns are cut shorter, and then dropped from the last, until the table fits in `TABLE_BYTES`.

    Returns:
        {"columns": [{"name", "number", "values"[, "index"]}], "note"}: the text of pick k is `values[k]`, or
        `values[index[k]]` where values repeat.
    """
    fixed = _fixed_columns(data)
    names = list(data.columns)
    room = TABLE_BYTES - _size(fixed)
    limit = _CELL_CHARS[0]
    carried: list[Column] = []
    for limit in _CELL_CHARS:
        carried = [_carried_column(name, data.columns[name], limit) for name in names]
        if _size(carried) <= room:
            break
    while carried and _size(carried) > room:
        carried.pop()
    return {"columns": fixed + carried, "note": _note(names[len(carried) :], cut=limit < _CELL_CHARS[0])}


def _fixed_columns(data: ReportData) -> list[Column]:
    unit = "nats" if data.gain_unit == "nats" else "variance"
    return [
        _column("Pick", (str(rank) for rank in range(1, data.num_picks + 1)), number=True),
        _column("Id", (clip(plain(value), _ADDRESS_CHARS) for value in data.ids)),
        _column(f"Gain ({unit})", (f"{gain:.4g}" for gain in data.gains), number=True),
        _column("Cumulative", (f"{gain:.5g}" for gain in data.cumulative_gains), number=True),
        _column("Nearest target", (clip(plain(value), _ADDRESS_CHARS) for value in data.nearest_ids)),
        _column("Cosine", (f"{cosine:.3f}" for cosine in data.nearest_cosines), number=True),
        _column("File", (_tail(plain(value)) for value in data.files)),
        _column("Row", (str(int(row)) for row in data.rows), number=True),
    ]


def _carried_column(name: str, values: Iterable[object], limit: int) -> Column:
    values = list(values)
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
    return len(json.dumps(columns))


def _note(dropped: list[str], *, cut: bool) -> str:
    notes = ["Long values are cut short here."] if cut else []
    if dropped:
        names = ", ".join(clip(plain(name), 60) for name in dropped)
        notes.append(f"Too large to show here: {clip(names, 600)}.")
    return " ".join([*notes, "selection.parquet has every value in full."] if notes else [])
