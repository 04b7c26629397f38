"""Whatever bytes and options come in, a command ends with one line and a documented exit code, or with right picks."""

from __future__ import annotations

import datetime
import re
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_itl.cli.arguments import readable_by_hydra
from ray_itl.cli.config import launch
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.helpers import clustered
from tests.jobs.helpers import compose_job, load_job
from tests.sources.damage import overwrite

_ROWS = 40
_COLUMNS = ["flag", "lang", "n", "price", "day", "time", "tags", "id", "embedding", "nope"]
_VALUES = [
    "true",
    "False",
    "en",
    "größe",
    "null",
    "'null'",
    "3",
    "3.5",
    "-1",
    "1e400",
    "2024-01-02",
    "0x00ff",
    "'*'",
    "[1]",
]
_CONDITIONS = [
    *("flag", "not flag", "lang = 'en'", "lang like '%r%'", "n < 3000000000", "n + 1 > price", "price / 0 > 1"),
    *("day >= date '2024-01-03'", "time < timestamp '2024-01-02 00:00:00+00:00'", "time < '2024-01-02'", "n = 'x'"),
    *("lang in ('en', 'de')", "tags = 'a'", "id % 2 = 0", "nope = 1", "lower(lang) = 'en'", "lang is null", ")", "n <"),
]
values, columns = st.sampled_from(_VALUES), st.sampled_from(_COLUMNS)
quotas = st.builds(
    "selection.quotas={{{}: {{{}: {{{}: {}}}}}}}".format,
    columns, values, st.sampled_from(["min", "max", "mix"]), st.sampled_from(["0", "2", "0.5", "99", "x"]),
)  # fmt: skip
options = st.one_of(
    quotas,
    st.builds("pool.filter={}".format, st.sampled_from([f'"{text}"' for text in _CONDITIONS])),
    st.builds("pool.{}={}".format, st.sampled_from(["id_column", "embedding_column"]), columns),
    st.builds("pool.columns=[{},{}]".format, columns, columns),
    st.builds("selection.cost_column={} selection.budget={}".format, columns, st.sampled_from(["5", "1e9", "0"])),
    st.builds("evaluation.class_column={} evaluation.classes=[{}]".format, columns, values),
    st.builds("acquisition.{}={}".format, st.sampled_from(["noise_variance", "relative_noise"]), values),
    st.builds("selection.{}={}".format, st.sampled_from(["n", "share", "min_distance", "min_gain"]), values),
    st.builds(
        "pool.{}".format, st.sampled_from(["on_bad_row=skip", "features=unit_norm", "dtype=float16", "dtype=bfloat16"])
    ),
    st.sampled_from(["acquisition=vtl", "acquisition=nearest", "selection.explain=true", "selection.replacement=true"]),
)
damage = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=2)


def _table() -> pa.Table:
    rng = np.random.default_rng(5)
    day, number = datetime.date(2024, 1, 1), np.arange(_ROWS)
    rows: list[Any] = list(clustered(_ROWS, seed=1))
    return pa.table(
        {
            "id": number,
            "embedding": pa.array(rows, pa.list_(pa.float32())),
            "flag": number % 2 == 0,
            "lang": [("en", "de", "größe", None)[k % 4] for k in range(_ROWS)],
            "n": pa.array(number % 5, pa.int8()),
            "price": 0.5 + rng.random(_ROWS),
            "day": [day + datetime.timedelta(days=k % 6) for k in range(_ROWS)],
            "time": pa.array([datetime.datetime(2024, 1, 1, k % 24) for k in range(_ROWS)], pa.timestamp("us", "UTC")),
            "tags": [["a"]] * _ROWS,
        }
    )


def run(words: list[str], edits: list[tuple[float, bytes]]) -> int:
    """Run a selection and look at how it ends; returns its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        pool, target, made = (Path(folder) / name for name in ("pool.parquet", "target.parquet", "run"))
        pq.write_table(_table(), pool, compression="none", write_page_checksum=True)
        pq.write_table(pa.table({"embedding": list(clustered(6, seed=2))}), target)
        if edits:
            pool.write_bytes(overwrite(pool.read_bytes(), edits, False))
        fixed = [f"pool.path={pool}", f"target.path={target}", "selection.n=6", f"run.dir={made}"]
        code, told = _call([*fixed, "cluster.num_shards=0", "run.report=false", "run.log=quiet", *words])
        if code:
            error = [line for line in told.splitlines() if line.startswith("error: ")]
            assert len(error) == 1, told
            assert code in (2, 75), told
            assert not re.search("Traceback|bug of ray_itl", told), told
            assert not (made / "selection.parquet").exists()
        elif "acquisition=random" not in words:
            found = verify(VerifySettings(FinishedRun(str(made))))
            assert found.right, found.summary().text
        shutil.rmtree(made, ignore_errors=True)
    return code


def _call(words: list[str]) -> tuple[int, str]:
    shown, code = StringIO(), 0
    try:
        # Not pytest's own command line, in which flags would be refused.
        with redirect_stderr(shown), redirect_stdout(StringIO()), patch.object(sys, "argv", ["curate"]):
            launch(lambda: load_job("curate").main(compose_job("curate", *map(readable_by_hydra, words))))
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        GlobalHydra.instance().clear()
    return code, shown.getvalue()


def test_the_command_is_good_before() -> None:
    assert run([], []) == 0
    assert run(["selection.quotas={flag: {true: {max: 2}}}", 'pool.filter="n < 300"'], []) == 0


whole = given(st.lists(options, max_size=3, unique=True), st.one_of(st.just([]), st.just([]), damage))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@whole
def test_whatever_comes_in(lines: list[str], edits: list[tuple[float, bytes]]) -> None:
    run([word for line in lines for word in _words(line)], edits)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=2_000, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
@whole
def test_a_lot_of_whatever(lines: list[str], edits: list[tuple[float, bytes]]) -> None:
    run([word for line in lines for word in _words(line)], edits)


def _words(line: str) -> list[str]:
    """Two options may stand in one line, parted by a space before a group's name."""
    return re.split(r" (?=selection\.|evaluation\.)", line)
