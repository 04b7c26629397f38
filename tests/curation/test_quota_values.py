"""Quotas on columns of every type, lists of ids and classes: values are compared in the column's type, or refused."""

from __future__ import annotations

import datetime
import json
import uuid
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.curation.result_settings import RunSettings
from ray_itl.curation.settings import EvaluationSettings, SelectionSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.sources.settings import TargetSettings
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files
from tests.ticks.helpers import Growing

_N = 12
_KINDS = [i % 3 for i in range(100)]
_DAYS = [datetime.datetime(2024, 1, 1 + i, 12) for i in range(3)]
_UUIDS = [uuid.UUID(int=i) for i in range(3)]
_ZONED = [day.replace(tzinfo=datetime.UTC) for day in _DAYS]
# column: its values 0, 1 and 2, their type, and ways to write the second
COLUMNS: dict[str, tuple[list[Any], pa.DataType, list[Any]]] = {
    "flag": ([False, True, False], pa.bool_(), [True, "true", "True", np.bool_(True)]),
    "int": ([0, 1, 2], pa.int16(), [1, 1.0, "1", np.int64(1), Decimal(1), np.float32(1)]),
    "float": ([0.5, 0.1, float("nan")], pa.float32(), [0.1, "0.1", np.float32(0.1), Decimal("0.1")]),
    "decimal": ([Decimal("0.25"), Decimal("0.50"), None], pa.decimal128(6, 2), [0.5, Decimal("0.500"), "0.5"]),
    "word": (["null", None, "x"], pa.string(), [None]),
    "category": (["null", "größe", None], pa.dictionary(pa.int8(), pa.string()), ["größe"]),
    "year": (["2023", "2024", ""], pa.large_string(), [2024, "2024", np.int32(2024)]),
    "bytes": ([b"\xfe", b"\xff", None], pa.binary(), [b"\xff", "0xff", "ff"]),
    "uuid": ([each.bytes for each in _UUIDS], pa.uuid(), [_UUIDS[1], str(_UUIDS[1]), _UUIDS[1].bytes]),
    "day": ([day.date() for day in _DAYS], pa.date32(), [_DAYS[1].date(), "2024-01-02", np.datetime64("2024-01-02")]),
    "time": (_DAYS, pa.timestamp("us"), [_DAYS[1], "2024-01-02 12:00", np.datetime64("2024-01-02T12:00:00")]),
    "zoned": (_ZONED, pa.timestamp("ms", "Europe/Berlin"), [_ZONED[1], "2024-01-02T13:00+01:00", "2024-01-02 12:00Z"]),
    "clock": (
        [day.time() for day in _DAYS[:1]] + [datetime.time(1), None],
        pa.time64("us"),
        [datetime.time(1), "01:00"],
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files with a column of every type, of three values each."""
    files = Files(tmp_path_factory.mktemp("typed"))
    for path in sorted(files.pool.iterdir()):
        table = pq.read_table(path)
        for name, (values, kind, _) in COLUMNS.items():
            column = [values[i] for i in _KINDS]
            text = isinstance(kind, pa.DictionaryType)
            table = table.append_column(name, pa.array(column).dictionary_encode() if text else pa.array(column, kind))
        pq.write_table(table, path)
    files.table = pq.read_table(files.pool)
    return files


def _run(files: Files, **groups: Any) -> Any:
    """Run a selection that leaves no folder."""
    return files.run(replace(files.settings(n=_N, **groups), run=RunSettings(log="quiet")))


def _picked(selection: Any, column: str) -> Counter[str]:
    return Counter(map(str, selection.table.column(column).to_pylist()))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_quota_is_kept_however_its_value_is_written(files: Files, name: str) -> None:
    values, _, written = COLUMNS[name]
    free = _run(files, pool={"columns": [name]})
    wanted = str(files.table.column(name)[1].as_py())
    assert _picked(free, name)[wanted] > 0
    for value in written:
        for bounds in ({"max": 0}, {"min": 9}):
            selection = _run(files, pool={"columns": [name]}, selection={"quotas": {name: {value: bounds}}})
            count = _picked(selection, name)[wanted]
            assert count == 0 if "max" in bounds else count >= 9, (value, values, count)
            (entry,) = selection.metrics["limits"]
            assert entry["used"] == count


@pytest.mark.parametrize("name", ["flag", "word", "bytes", "time", "float"])
def test_a_run_with_such_values_goes_on_and_is_checked(files: Files, name: str) -> None:
    value, run = COLUMNS[name][2][0], f"{name}-run"
    settings = files.settings(run, n=_N, selection={"quotas": {name: {value: {"max": 2}, "*": {"min": 1}}}})
    with pytest.raises(InterruptedError):
        files.run(settings, StopAfter(1))
    selection = files.run(settings, Listener())
    assert verify(VerifySettings(run=FinishedRun(str(files.folder / run)))).right
    recorded = json.loads((files.folder / run / "metrics.json").read_text())["limits"]
    assert recorded == selection.metrics["limits"]
    assert {entry["name"].split("=")[0] for entry in recorded} == {name}
    assert len(recorded) == len(set(map(str, files.table.column(name).to_pylist())))


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["flag", "word", "float", "uuid", "zoned"])
def test_shards_on_ray_tell_them_apart_alike(files: Files, name: str) -> None:
    target = pq.read_table(files.target)
    quotas = {name: {COLUMNS[name][2][0]: {"max": 1}, "*": {"max": 11}}}
    here = select(files.table, target, _N, quotas=quotas)
    assert select(files.table, target, _N, quotas=quotas, num_shards=2).ids == here.ids


REFUSED: list[tuple[dict[Any, Any], str]] = [
    (
        {"int": {"abc": {"max": 1}}},
        r"column int is of type int16, which cannot hold 'abc' \(it is no number\): write a w",
    ),
    ({"int": {1.5: {"max": 1}}}, "cannot hold 1.5"),
    ({"int": {99_999: {"max": 1}}}, "not from -32768 to 32767"),
    ({"flag": {1: {"max": 1}}}, "write true or false"),
    ({"year": {False: {"max": 1}}}, "YAML reads no, off, on and yes .*: write text, in quotes"),
    ({"zoned": {"2024-01-02 12:00": {"max": 1}}}, r"it has no zone\): write it like 2026-01-31 12:00:00\+00:00"),
    ({"time": {"2024-01-02 12:00Z": {"max": 1}}}, "has a zone, and the column none"),
    ({"int": {1: {"max": 1}, "1": {"max": 2}}}, r"selection\.quotas\.int: 1 and '1' are the same value: keep one"),
    ({"flag": {True: {"max": 1}, "yes": {"max": 2}}}, "True and 'yes' are the same value"),
    ({"category": {"größ": {"max": 1}}}, "no row of the pool has category=größ: did you mean 'größe'"),
    ({"word": {"none": {"max": 1}}}, "no row of the pool has word=none: .*there are 'null', null, x"),
    ({"day": {"2024-01-05": {"min": 1}}}, "no row of the pool has day=2024-01-05: did you mean '2024-01-0"),
    ({"embedding": {"*": {"max": 1}}}, "column embedding is of type .*, whose values cannot be told apart"),
]


@pytest.mark.parametrize(("quotas", "words"), REFUSED, ids=str)
def test_a_value_that_there_is_not_is_refused(files: Files, quotas: dict[Any, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        files.run(files.settings("refused", n=_N, selection={"quotas": quotas}))
    assert "\n" not in str(refused.value)
    assert not (files.folder / "refused").exists()


def test_names_that_become_one_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"selection\.quotas\.day names something twice"):
        SelectionSettings(quotas={"day": {_DAYS[1].date(): {"max": 1}, "2024-01-02": {"max": 2}}})
    with pytest.raises(ConfigError, match=r"cannot hold values of type object"):
        SelectionSettings(quotas={"day": {object(): {"max": 1}}})


def test_types_that_differ_over_files_are_compared_in_one(tmp_path: Path) -> None:
    files = Files(tmp_path)
    kinds = [pa.int8(), pa.int64(), pa.int32()]
    for path, kind in zip(sorted(files.pool.iterdir()), kinds, strict=True):
        pq.write_table(pq.read_table(path).append_column("c", pa.array(_KINDS, kind)), path)
    selection = files.run(files.settings(n=_N, pool={"columns": ["c"]}, selection={"quotas": {"c": {1: {"max": 0}}}}))
    assert _picked(selection, "c")["1"] == 0


def test_ids_to_exclude_that_the_pool_lacks_are_said(files: Files, tmp_path: Path) -> None:
    listener = Listener()
    pq.write_table(pa.table({"id": [5, 9_001, 9_000]}), tmp_path / "out.parquet")
    lists = {"exclude": str(tmp_path / "out.parquet")}
    selection = files.run(files.settings("listed", n=3, selection=lists), listener)
    words = r"the pool lacks 2 of its 3 ids, the first 9001 (its ids go from 0 to 299)"
    assert selection.metrics["notes"] == [f"selection.exclude={lists['exclude']}: {words}"]
    assert any(words in line for line in listener.lines)
    texts = pa.table({"id": [f"Boot {i}" for i in range(300)], "embedding": files.table.column("embedding")})
    target = pq.read_table(files.target)
    with pytest.raises(
        InputError, match=r"lacks 1 of its 2 ids, the first 'boot 7 ' \(did you mean 'Boot 7'\?\); leave"
    ):
        select(texts, target, 3, include=["Boot 3", "boot 7 "])


@pytest.mark.parametrize("ids", [5, [[1]], [None], [float("nan")], ["\udce9"], [2**70]], ids=str)
def test_lists_that_hold_no_ids_are_one_line(files: Files, ids: Any) -> None:
    with pytest.raises(InputError, match=r"^selection\.exclude "):
        select(files.table, pq.read_table(files.target), 3, exclude=ids)


def test_ids_as_pandas_has_them_in_a_column_with_gaps(files: Files) -> None:
    target = pq.read_table(files.target)
    expected = select(files.table, target, 3, exclude=[5, 7]).ids
    assert select(files.table, target, 3, exclude=[5.0, np.float64(7)]).ids == expected
    assert select(files.table, target, 3, exclude=[pa.scalar(5), pa.scalar(7)]).ids == expected


def _classes(files: Files, column: str, *classes: Any) -> Any:
    evaluation = EvaluationSettings(column, list(classes))
    settings = replace(files.settings(n=_N, pool={"columns": [column]}), run=RunSettings(log="quiet"))
    selection = files.run(replace(settings, evaluation=evaluation))
    return selection.metrics["comparison"][0]["count"], _picked(selection, column)


def test_classes_are_compared_in_the_columns_type(files: Files) -> None:
    for column, written in (
        ("int", [1, 1.0, "1"]),
        ("flag", [True, "true"]),
        ("decimal", ["0.5", 0.5]),
        ("day", ["2024-01-02"]),
    ):
        for value in written:
            count, picked = _classes(files, column, value)
            assert count == picked[str(files.table.column(column)[1].as_py())] > 0
    with pytest.raises(ConfigError, match=r"evaluation\.classes: column int is of type int16, which cannot hold 'abc'"):
        _classes(files, "int", "abc")
    with pytest.raises(
        ConfigError, match=r"evaluation\.classes: no row of the pool has category=grösse: did you mean 'größe'"
    ):
        _classes(files, "category", "grösse")


@pytest.mark.parametrize(
    ("tasks", "weights"), [([1, 2], {1: 3.0}), ([True, False], {True: 3.0, "no": 1}), ([0.5, 1.0], {"1": 3})]
)
def test_tasks_are_compared_in_the_columns_type(files: Files, tasks: list[Any], weights: dict[Any, float]) -> None:
    target = pq.read_table(files.target)
    target = target.append_column("task", pa.array([tasks[i % 2] for i in range(len(target))]))
    selection = select(files.table, target, 3, task_column="task", task_weights=weights)
    assert sorted(task["weight"] for task in selection.metrics["tasks"]) == [1.0, 3.0]
    by_number: Any = {1: np.float32(2)}
    assert TargetSettings(task_column="t", task_weights=by_number).task_weights == {1: 2.0}
    with pytest.raises(ConfigError, match=r"target\.task_weights"):
        select(files.table, target, 3, task_column="task", task_weights={"x y": 2.0})
    with pytest.raises(ConfigError, match=r"target\.task_weights names the task .* twice"):
        select(files.table, target, 3, task_column="task", task_weights={tasks[0]: 2.0, str(tasks[0]): 1.0})


def _grow(pool: Growing, part: int, values: list[str]) -> None:
    pool.grow(part)
    path = pool.pool / f"part-{part:02d}.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("lang", pa.array([values[i % len(values)] for i in range(len(table))])), path)


def test_a_tick_warns_of_a_value_that_may_come_later(tmp_path: Path) -> None:
    pool, listener = Growing(tmp_path), Listener()
    quotas = {"lang": {"en": {"max": 3}, "fr": {"min": 2}}}
    _grow(pool, 0, ["en", "de"])
    tick = pool.tick("one", reporter=listener, selection={"quotas": quotas})
    words = "selection.quotas: no row of the pool has lang=fr: there are de, en"
    assert any(words in line for line in listener.lines)
    metrics = json.loads((Path(pool.location) / tick.record.path / "metrics.json").read_text())
    assert metrics["notes"] == [words]
    _grow(pool, 1, ["en", "fr"])
    tick = pool.tick("two", selection={"quotas": quotas})
    folder = Path(pool.location) / tick.record.path
    assert "notes" not in json.loads((folder / "metrics.json").read_text())
    assert verify(VerifySettings(run=FinishedRun(str(folder)))).right
    assert verify(VerifySettings(run=FinishedRun(str(folder.parent / Path(pool.tick("one").record.path).name)))).right
    _grow(pool, 2, ["fr"])
    with pytest.raises(ConfigError, match="which cannot hold True"):
        pool.tick("three", selection={"quotas": {"lang": {True: {"max": 1}}}})
