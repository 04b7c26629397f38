"""Peak memory of reading one large row group, measured in a process of its own."""

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.sources.helpers import pool_table

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc"),
]

MEBIBYTE = 1 << 20
NUM_ROWS, DIM = 400 * MEBIBYTE // (4 * 384), 384

MEASURE = """
import re, sys
from pathlib import Path
import numpy as np, torch
from ray_itl.sources.open import open_source

def peak():
    # Not ru_maxrss: a new process begins with the peak of the one that started it.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
source = open_source(sys.argv[1], id_column="id")
if sys.argv[2] == "batches":
    features = np.empty((source.num_rows, source.dim), source.dtype)
    row = 0
    for ids, embeddings in source.batches(0, source.num_rows):
        features[row : row + len(embeddings)] = embeddings
        row += len(embeddings)
    assert row == source.num_rows
else:
    source.take(np.array([source.num_rows - 1, 7]), ["embedding", "text"])
print(peak() - before)
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    """One row group of 400 MiB."""
    path = tmp_path_factory.mktemp("large") / "a.parquet"
    rows = np.tile(np.random.default_rng(0).standard_normal((1000, DIM), dtype=np.float32), (NUM_ROWS // 1000 + 1, 1))
    table = pool_table(rows[:NUM_ROWS])
    pq.write_table(table, path, row_group_size=NUM_ROWS, compression="none")
    assert pq.read_metadata(path).num_row_groups == 1
    assert path.stat().st_size > 400 * MEBIBYTE
    yield path
    path.unlink()


def measure(path, what: str) -> int:
    command = [sys.executable, "-W", "error", "-c", MEASURE, str(path), what]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_reading_all_rows_needs_little_more_than_the_features(large_file):
    features = NUM_ROWS * DIM * 4
    peak = measure(large_file, "batches")
    # About 20 MiB of this is library code that is paged in when it first runs.
    assert features < peak <= features + 64 * MEBIBYTE


def test_taking_a_row_does_not_load_its_row_group(large_file):
    # Arrow itself holds 13 MiB; its allocator keeps several times that back.
    assert measure(large_file, "take") <= 128 * MEBIBYTE
