"""Small Parquet pools, and ways to damage them, for the tests that no file can do harm."""

from collections.abc import Sequence
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from tests.sources.helpers import pool_table, random_rows

TAIL = 8  # the length of the footer, then the magic number
Edit = tuple[float, bytes]
"""Where in the damaged part, from 0 to 1, and the bytes to put there."""


def small_pools() -> list[bytes]:
    """Return files that differ in the type of their lists and ids, in encoding and in compression."""
    rows = random_rows(24)
    numbers, texts = pool_table(rows, kind="fixed"), pool_table(rows, kind="list")
    texts = texts.set_column(0, "id", pa.array([f"row-{i}" for i in range(24)]))
    return [
        written(numbers, compression="none", use_dictionary=False),
        written(numbers, compression="zstd", data_page_version="2.0", write_page_checksum=True),
        written(texts, compression="snappy", store_schema=False),
        written(texts, compression="gzip", column_encoding=None, use_byte_stream_split=False),
    ]


def written(table: pa.Table, **options) -> bytes:
    """Return a table as the bytes of a file with small row groups."""
    file = BytesIO()
    pq.write_table(table, file, row_group_size=10, **options)
    return file.getvalue()


def overwrite(content: bytes, edits: Sequence[Edit], footer_only: bool) -> bytes:
    """Return a file with bytes replaced: anywhere, or in the footer while the file still ends as Parquet does."""
    damaged = bytearray(content)
    stop = len(content) - TAIL if footer_only else len(content)
    start = stop - int.from_bytes(content[-TAIL:-4], "little") if footer_only else 0
    for place, piece in edits:
        at = start + int(place * max(0, stop - start - len(piece)))
        damaged[at : at + len(piece)] = piece[: stop - at]
    return bytes(damaged)


def regrown(content: bytes, place: float, removed: int, inserted: bytes) -> bytes:
    """Return a file whose footer lost some bytes and got others, with its length told right."""
    length = int.from_bytes(content[-TAIL:-4], "little")
    footer = content[-TAIL - length : -TAIL]
    at = int(place * length)
    footer = footer[:at] + inserted + footer[at + removed :]
    return content[: -TAIL - length] + footer + len(footer).to_bytes(4, "little") + content[-4:]
