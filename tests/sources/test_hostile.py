"""Small files that ask for a lot: each is refused with a clear error, in little memory and time."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.sources.agreement import build_manifest
from ray_itl.sources.columns import Asked
from ray_itl.sources.footer import MAX_ROW_GROUPS
from tests.sources.damage import TAIL
from tests.sources.helpers import pool_table, random_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

MEBIBYTE = 1 << 20
MANY = 16_000_000
"""Numbers, 64 MB of float32."""

# Each case in turn, in one process: the peak only grows, so a case is charged with what it adds.
OPEN_EACH = f"""
import json, re, resource, sys, time
from pathlib import Path
from ray_itl.errors import InputError
from ray_itl.sources.open import open_source

resource.setrlimit(resource.RLIMIT_AS, ({6 << 30},) * 2)

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def read(path):
    source = open_source(path, id_column="id")
    for _ in source.batches(0, source.num_rows):
        pass

read(sys.argv[1])  # what the library itself takes when it first runs
for path in sys.argv[2:]:
    before, began, error = peak(), time.process_time(), ""
    try:
        read(path)
    except InputError as problem:
        error = str(problem)
    print(json.dumps([error, peak() - before, time.process_time() - began]))
"""


def varint(number: int) -> bytes:
    """Return a number as Thrift's compact protocol writes it."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def with_footer(path: Path, footer: bytes) -> None:
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def many_of(field: int, item: bytes, count: int) -> Callable[[Path], None]:
    """Write a footer whose list in this field of the file's metadata has many structs."""
    head = bytes([field << 4 | 9, 0xFC])
    return lambda path: with_footer(path, head + varint(count) + item * count + b"\0")


def lists_of(*lengths: int, **options) -> Callable[[Path], None]:
    """Write rows with lists of these lengths, all of zeros, which take next to no bytes."""

    def write(path: Path) -> None:
        offsets = np.cumsum([0, *lengths])
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(np.zeros(offsets[-1], np.float32)))
        pq.write_table(pa.table({"id": range(len(lengths)), "embedding": lists}), path, **options)

    return write


def nested(depth: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        column: pa.Array = pa.array([1.0], pa.float32())
        for _ in range(depth):
            column = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), column)
        pq.write_table(pa.table({"id": [0], "embedding": column}), path, store_schema=False)

    return write


def tiny_groups(path: Path) -> None:
    head = b"\x29\xfc"
    with_footer(path, head + varint(10_000) + b"\x48\x01c\0" * 10_000 + head + varint(26) + b"\0" * 27)


def rows_beyond_number(path: Path) -> None:
    """A file of some hundred bytes whose footer has 2^50 rows in it wherever it had 100,000."""
    pq.write_table(pool_table(np.zeros((100_000, 1), np.float32)).select(["embedding"]), path, compression="zstd")
    content = path.read_bytes()
    start = len(content) - TAIL - int.from_bytes(content[-TAIL:-4], "little")
    old, new = varint(2 * 100_000), varint(2 * 2**50)
    footer = content[start:-TAIL].replace(b"\x16" + old, b"\x16" + new)
    assert footer.count(new) >= 3
    path.write_bytes(content[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def huge_fixed_size(path: Path) -> None:
    """A file without rows may be of any type: nothing is made of it, and the rows beside it are read."""
    kind = pa.list_(pa.float32(), 2**31 - 1)
    pq.write_table(pa.table({"id": pa.array([], pa.int64()), "embedding": pa.array([], kind)}), path)
    pq.write_table(pool_table(random_rows(3)), path.with_name("b.parquet"))


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "10^6 columns": (many_of(2, b"\x48\x01c\0", 10**6), "claims 1,000,000 columns, more than 50,000"),
    "10^6 row groups": (many_of(4, b"\x19\x0c\x16\0\x16\x02\0", 10**6), "claims 1,000,000 row groups, more than"),
    "2^60 columns": (lambda path: with_footer(path, b"\x29\xfc" + varint(2**60)), "claims 1,152,921,504,606,846,976"),
    "250,000 pieces": (tiny_groups, r"26 row groups of 10,000 columns, more than 250,000"),
    "a footer of 40 MB": (lambda path: with_footer(path, bytes(40_000_000)), "footer has 40,000,000 bytes, more than"),
    "lists in lists": (nested(1000), "too deeply nested"),
    "structs in the footer": (lambda path: with_footer(path, b"\x9c" * 10_000), "nested too deeply"),
    "a row of 16,000,000": (lists_of(4, 5, MANY), "16,000,009 numbers in 3 rows"),
    "it alone": (lists_of(MANY), "dimension 16,000,000, more than 65,536"),
    "in one page": (lists_of(5, MANY, use_dictionary=False, compression="gzip", data_page_size=1 << 30), "in 2 rows"),
    "among short ones": (lists_of(*[4] * 1000, MANY), "16,004,000 numbers in 1,001 rows"),
    "embeddings of zeros": (
        lists_of(*[16_000] * 1600, compression="zstd", data_page_size=1 << 30),
        "claims 25,600,000 numbers in .* bytes, which is not believed",
    ),
    "2^50 rows": (rows_beyond_number, r"claims 1,125,899,906,842,624 rows in \d+ bytes"),
    "dimension 2^31": (huge_fixed_size, "^$"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int, float]]:
    """What opening and reading each case gave: error, memory and seconds of CPU."""
    folder = tmp_path_factory.mktemp("hostile")
    good = folder / "good.parquet"
    pq.write_table(pool_table(random_rows(3000, dim=16)), good)
    paths = []
    for number, (write, _) in enumerate(CASES.values()):
        paths.append(folder / str(number))
        paths[-1].mkdir()
        write(paths[-1] / "a.parquet")
    command = [sys.executable, "-W", "error", "-c", OPEN_EACH, str(good), *map(str, paths)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return dict(zip(CASES, map(json.loads, ran.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused_cheaply(outcomes: dict[str, tuple[str, int, float]], name: str) -> None:
    error, memory, seconds = outcomes[name]
    assert re.search(CASES[name][1], error), error
    assert "a.parquet" in error or "'embedding'" in error or not error
    assert memory < 100 * MEBIBYTE
    assert seconds < 5


def test_constant_rows_of_ordinary_number_are_believed(tmp_path: Path) -> None:
    pq.write_table(pool_table(np.zeros((100_000, 64), np.float32)), tmp_path / "a.parquet")
    assert build_manifest([str(tmp_path)], Asked("id", "embedding")).num_rows == 100_000


def test_many_row_groups_are_fine(tmp_path: Path) -> None:
    pq.write_table(pool_table(random_rows(2000)), tmp_path / "a.parquet", row_group_size=1)
    manifest = build_manifest([str(tmp_path)], Asked("id", "embedding"))
    assert len(manifest.files[0].row_groups) == 2000 < MAX_ROW_GROUPS


def test_a_long_list_of_columns_is_cut_short(tmp_path: Path) -> None:
    table = pa.table({f"column-{i:04d}" + "x" * 100: [0] for i in range(500)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column-0029x+… and 470 more") as caught:
        build_manifest([str(tmp_path)], Asked("id", "embedding"))
    assert len(str(caught.value)) < 4000
