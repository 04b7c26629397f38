"""How results show themselves in a notebook: small tables of HTML in which all text from data is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ray_itl.report.words import clip, plain

_MOST_ROWS = 10
_MOST_COLUMNS = 9
_MOST_CHARACTERS = 60


def table_html(heading: str, table: pa.Table, noun: str) -> str:
    """Return a heading and the first rows and columns of a table, and how many more there are of each.

    Args:
        heading: In a line above it.
        table: The results.
        noun: What a row is, such as "pick".
    """
    names = table.column_names[:_MOST_COLUMNS]
    rows = table.select(names).slice(0, _MOST_ROWS).to_pylist()
    left = [f"{len(table) - len(rows):,} more {noun}s"] * (len(table) > len(rows))
    left += [f"{table.num_columns - len(names)} more columns"] * (table.num_columns > len(names))
    body = "".join(_row("td", [row[name] for name in names]) for row in rows)
    note = f"<p>{' and '.join(left)} in .table</p>" if left else ""
    return (
        f"<div><p><code>{html.escape(heading)}</code></p><table><thead>{_row('th', names)}</thead>"
        f"<tbody>{body}</tbody></table>{note}</div>"
    )


def _row(tag: str, values: Sequence[Any]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_cell(value)}</{tag}>' for value in values)}</tr>"


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return html.escape(clip(plain(value), _MOST_CHARACTERS))
