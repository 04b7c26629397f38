"""Rows nearly equal to held-out ones: never picked, by any rule, as if the pool had not had them; and on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.api import select
from ray_itl.curation.summary import summarise
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.selection import Selection
from ray_itl.sources.settings import HeldoutSettings
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files, clustered, table_of

pytestmark = pytest.mark.usefixtures("small_blocks")
LEAKED = [5, 77, 150, 151, 299]
"""Rows of the pool (counted through its files) that the held-out set has, too."""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def hold_out(files: Files, leaked: list[int] = LEAKED) -> dict[str, Any]:
    """Write a held-out set with copies of pool rows, in other lengths, among rows of its own; return its options."""
    own = np.random.default_rng(5).standard_normal((20, 8)).astype(np.float32)
    copies = np.array(files.table.column("embedding").to_pylist(), dtype=np.float32)[leaked] * 3
    table = table_of(np.concatenate([own, copies]), first_id=7000)
    pq.write_table(table.drop_columns(["text"]), files.folder / "test.parquet")
    return {"path": str(files.folder / "test.parquet"), "max_similarity": 0.9999}


def without(files: Files, rows: list[int]) -> pa.Table:
    return files.table.filter(pa.array(~np.isin(np.arange(files.table.num_rows), rows)))


def assert_same(found: Selection, expected: Selection) -> None:
    assert found.ids == expected.ids
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-9)


@pytest.mark.parametrize("rule", ["itl", "vtl", "uncertainty", "nearest", "cosine", "random"])
def test_every_rule_picks_as_without_those_rows(files: Files, rule: str) -> None:
    heldout = hold_out(files)
    found = files.run(files.settings(n=40, heldout=heldout, acquisition={"name": rule}))
    rest = without(files, LEAKED)
    assert_same(found, select(rest, str(files.target), 40, acquisition=rule, noise_variance=1.0))
    assert found.heldout is not None
    rows = found.heldout.to_pylist()
    assert [row["id"] for row in rows] == files.table.column("id").take(LEAKED).to_pylist()
    assert [(row["file"], row["row"]) for row in rows[:3]] == [
        ("part-0.parquet", 5),
        ("part-0.parquet", 77),
        ("part-1.parquet", 50),
    ]
    assert [row["heldout_id"] for row in rows] == [f"test.parquet:{20 + k}" for k in range(5)]
    assert {row["reason"] for row in rows} == {"embedding"}
    assert [row["similarity"] for row in rows] == pytest.approx([1.0] * 5)
    assert pq.read_table(files.folder / "run" / "heldout.parquet").equals(found.heldout)
    if rule != "random":
        checked = verify(VerifySettings(FinishedRun(str(files.folder / "run"))))
        assert checked.right, checked.summary().text


def test_it_is_said_and_recorded(files: Files) -> None:
    listener = Listener()
    settings = files.settings(heldout={**hold_out(files), "id_column": "id"})
    found = files.run(replace(settings, run=replace(settings.run, report=True)), listener)
    words = "5 rows of the pool nearly equal to one of 25 held-out rows: excluded"
    assert f"  {words}" in listener.lines
    ending = summarise(found)
    assert words in ending.text
    assert f"heldout: {files.folder / 'run' / 'heldout.parquet'}" in ending.text
    assert ending.facts["heldout"] == 5
    metrics = json.loads((files.folder / "run" / "metrics.json").read_text())
    assert (metrics["heldout_rows"], metrics["num_heldout"]) == (5, 25)
    assert words in (files.folder / "run" / "report.html").read_text()
    again = files.run(settings)
    assert again.heldout is not None
    assert again.heldout.equals(found.heldout)
    assert all(name.isdigit() for name in again.heldout.column("heldout_id").to_pylist())


def test_nothing_near_is_said_too(files: Files) -> None:
    found = files.run(files.settings(heldout=hold_out(files, [])))
    assert_same(found, files.run(files.settings(None)))
    assert (found.metrics["heldout_rows"], len(found.heldout or [])) == (0, 0)
    assert "0 rows of the pool nearly equal" in summarise(found).text


def test_an_interrupted_run_goes_on_and_one_with_other_held_out_rows_does_not(files: Files) -> None:
    heldout = hold_out(files)
    expected = files.run(files.settings("whole", n=24, heldout=heldout))
    with pytest.raises(InterruptedError):
        files.run(files.settings(n=24, heldout=heldout), StopAfter(2))
    for other in ({**heldout, "max_similarity": 0.9}, {}):
        with pytest.raises(RunDirectoryError, match=r"changed: held-out rows\)"):
            files.run(files.settings(n=24, heldout=other))
    assert files.run(files.settings(n=24, heldout=heldout)).table.equals(expected.table)


def test_quotas_are_counted_without_those_rows(files: Files) -> None:
    heldout = hold_out(files)
    for path in sorted(files.pool.iterdir()):
        table = pq.read_table(path)
        first = 100 * int(path.stem[-1])
        kinds = ["rare" if first + row in (5, 77, 10) else "usual" for row in range(table.num_rows)]
        pq.write_table(table.append_column("kind", pa.array(kinds)), path, row_group_size=40)
    quotas = {"kind": {"rare": {"min": 1}}}
    found = files.run(files.settings(heldout=heldout, selection={"quotas": quotas}))
    assert found.ids.count(files.table.column("id")[10].as_py()) == 1
    with pytest.raises(ConfigError, match=r"kind=rare must have 2 picks, but the pool has 1 such rows"):
        files.run(files.settings("more", heldout=heldout, selection={"quotas": {"kind": {"rare": {"min": 2}}}}))


def test_a_pool_of_nothing_else(files: Files) -> None:
    files.table = files.table.slice(0, 10)
    for path in files.pool.iterdir():
        path.unlink()
    pq.write_table(files.table, files.pool / "part-0.parquet")
    heldout = hold_out(files, list(range(10)))
    assert len(files.run(files.settings(n=3, heldout=heldout))) == 0
    heldout = hold_out(files, list(range(8)))
    assert len(files.run(files.settings("two", n=2, heldout=heldout))) == 2
    for rule in ("itl", "nearest"):
        with pytest.raises(
            ConfigError, match=r"selection\.n=3, but the pool has 2 rows to pick from that are not near"
        ):
            files.run(files.settings("three", n=3, heldout=heldout, acquisition={"name": rule}))


def _with_texts(files: Files) -> dict[str, Any]:
    texts = ["The Owl  and the Pussy-cat", None, "went to sea in a beautiful pea-green boat they took some honey"]
    pq.write_table(pa.table({"question": texts}), files.folder / "texts.parquet")
    for path in sorted(files.pool.iterdir()):
        table = pq.read_table(path)
        said = table.column("text").to_pylist()
        said[3], said[4] = "the owl and the pussy-cat", None
        said[9] = "And then they went to sea in a beautiful pea green boat!"
        pq.write_table(table.set_column(3, "text", pa.array(said)), path, row_group_size=40)
    return {"path": str(files.folder / "texts.parquet"), "text_column": "question", "pool_text_column": "text"}


def test_texts_alone_are_compared_where_nothing_is_embedded(files: Files) -> None:
    heldout = {**_with_texts(files), "embedding_column": None}
    found = files.run(files.settings(heldout=heldout, n=290))
    assert found.heldout is not None
    assert found.heldout.column("row").to_pylist() == [3, 3, 3]
    assert {*found.heldout.column("reason").to_pylist()} == {"same text"}
    found = files.run(files.settings("ngrams", heldout={**heldout, "ngram": 4}, n=290))
    assert found.heldout is not None
    assert [tuple(row.values())[1:] for row in found.heldout.to_pylist()[:2]] == [
        (3, files.table.column("id")[3].as_py(), "texts.parquet:0", 1.0, "same text"),
        (9, files.table.column("id")[9].as_py(), "texts.parquet:2", pytest.approx(6 / 9), "n-gram overlap"),
    ]
    assert "1 held-out text of 3 have fewer than heldout.ngram=4 words" in found.metrics["warnings"][0]
    assert not {*found.ids} & {*found.heldout.column("id").to_pylist()}
    for run in ("run", "ngrams"):
        checked = verify(VerifySettings(FinishedRun(str(files.folder / run))))
        assert checked.right, checked.summary().text


def test_rows_in_memory_and_targets_that_leak() -> None:
    pool = clustered(100, seed=1)
    found = select(pool, pool[:3], 90, heldout=pool[[2, 50]] * 2, heldout_options={"max_similarity": 0.9999})
    assert not {*found.ids} & {2, 50}
    assert found.heldout is not None
    assert found.heldout.column("heldout_id").to_pylist() == ["0", "1"]
    assert "1 of 3 targets are nearly equal to held-out rows" in found.metrics["notes"][0]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no embeddings": ({"path": "texts"}, r"heldout rows: .*heldout\.embedding_column"),
    "no such column": ({"text_column": "txt"}, r"held-out rows: .*'txt'.*heldout\.text_column"),
    "not in the pool": ({"pool_text_column": "said"}, r"'said'.*heldout\.pool_text_column"),
    "no text": (
        {"pool_text_column": "weight"},
        r"heldout\.pool_text_column=weight is of type double: name a column of",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compared_is_named(files: Files, name: str) -> None:
    changes, message = WRONG[name]
    heldout = {**_with_texts(files), "embedding_column": None, **changes}
    if name == "no embeddings":
        heldout = {"path": str(files.folder / "texts.parquet")}
    with pytest.raises(InputError, match=message):
        files.run(files.settings(heldout=heldout))
    assert not (files.folder / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_similarity": 0}, r"heldout\.max_similarity=0 cannot be used: give a number above 0, at most 1"),
        ({"ngram": 13}, r"heldout\.ngram=13 cannot be used: set heldout\.text_column"),
        ({"ngram": 0, "text_column": "text"}, r"heldout\.ngram=0"),
        ({"embedding_column": None}, r"heldout\.embedding_column=None cannot be used: set heldout\.text_column"),
        ({"max_overlap": 1.5}, r"heldout\.max_overlap=1\.5 cannot be used: give a number from 0 to 1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HeldoutSettings("x", **options)


def test_options_without_rows_are_refused(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"heldout\.path is not set"):
        files.settings(heldout={"max_similarity": 0.9})
    pool = clustered(20, seed=1)
    with pytest.raises(ConfigError, match="heldout is not given"):
        select(pool, pool[:1], 2, heldout_options={"ngram": 3})
    with pytest.raises(ConfigError, match=r"similarity is none of embedding_column, id_column, max_similarity"):
        select(pool, pool[:1], 2, heldout=pool[:1], heldout_options={"similarity": 3})
