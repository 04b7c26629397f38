"""Selections for many queries as a job: results, resuming, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest

import ray_itl
from ray_itl.core.many import selector
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.embedding.encoder_settings import EncoderSettings
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.observability.reporter import Reporter
from ray_itl.queries import run as run_module
from ray_itl.queries.parts import Parts
from ray_itl.queries.run import select_queries
from ray_itl.queries.summary import plan_queries, summarise_queries
from ray_itl.sources.settings import PoolSettings, TargetSettings
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.helpers import Files, clustered

NUM_QUERIES, N = 9, 4
ROWS = clustered(2 * NUM_QUERIES, 7)
NAMES = [f"q{number % NUM_QUERIES}" for number in range(2 * NUM_QUERIES)]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector, "_FETCHED", 32)
    monkeypatch.setattr(selector, "_MOST_QUERIES", 3)
    monkeypatch.setattr(run_module, "_QUERIES_A_PART", 3)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    pq.write_table(pa.table({"prompt": NAMES, "embedding": list(ROWS)}), files.target)
    return files


def settings_of(files: Files, run: str | None = "run", **changes: Any) -> CurationSettings:
    target = {"query_column": "prompt", **changes.pop("target", {})}
    return files.settings(run, n=N, target=target, **changes)


def expected(files: Files, **options: Any) -> pa.Table:
    with ray_itl.open_pool(files.pool) as pool:
        return pool.select_many(files.target, N, query_column="prompt", noise_variance=1.0, **options)


def test_a_job_writes_the_table_of_all_queries(files: Files) -> None:
    settings = settings_of(files, pool={"columns": ["text"]})
    found = select_queries(settings)
    assert found.table.equals(expected(files, columns=["text"]))
    assert pq.read_table(files.folder / "run" / "selection.parquet").equals(found.table)
    status = json.loads((files.folder / "run" / "status.json").read_text())
    assert (status["state"], status["queries_done"], status["num_queries"]) == ("finished", NUM_QUERIES, NUM_QUERIES)
    assert status["num_picked"] == NUM_QUERIES * N
    summary = summarise_queries(found)
    assert f"for {NUM_QUERIES} queries" in summary.headline
    again = select_queries(settings)
    assert again.table.equals(found.table)
    assert again.metrics == found.metrics


def test_queries_that_are_done_are_kept(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, write, parts = settings_of(files), Parts.write, 0

    def interrupted(self: Parts, *arguments: Any) -> None:
        nonlocal parts
        write(self, *arguments)
        parts += 1
        if parts == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            select_queries(settings)
    status = json.loads((files.folder / "run" / "status.json").read_text())
    assert status["state"] == "interrupted"
    asked: list[int] = []
    select = selector.ManySelector.select

    def counting(self: selector.ManySelector, targets: Any, n: int) -> Any:
        asked.append(len(targets))
        return select(self, targets, n)

    monkeypatch.setattr(selector.ManySelector, "select", counting)
    assert select_queries(settings).table.equals(expected(files))
    assert asked[0] == NUM_QUERIES - 6


def test_other_queries_do_not_go_on_in_the_same_directory(files: Files) -> None:
    select_queries(settings_of(files))
    pq.write_table(pa.table({"prompt": NAMES[::-1], "embedding": list(ROWS)}), files.target)
    with pytest.raises(RunDirectoryError, match="changed: queries"):
        select_queries(settings_of(files))


def test_what_was_begun_with_the_former_noise_goes_on_with_it(files: Files) -> None:
    """It was 1 by default; each query here has two targets."""
    begun = settings_of(files, acquisition={"noise_variance": None, "relative_noise": 1.0})
    first = select_queries(begun)
    unset = replace(begun, acquisition=replace(begun.acquisition, relative_noise=None))
    assert select_queries(unset).table.equals(first.table)
    elsewhere = replace(unset, run=replace(unset.run, dir=str(files.folder / "elsewhere")))
    assert select_queries(elsewhere).metrics["noise_variance"] == pytest.approx(10 * first.metrics["noise_variance"])


def test_whole_lines_where_the_pool_is_lines(files: Files) -> None:
    found = select_queries(settings_of(files, run="run", pool={"columns": ["text"]}))
    other = settings_of(files, run="lines", pool={"columns": ["text"]})
    select_queries(replace(other, run=replace(other.run, output="jsonl")))
    lines = pj.read_json(files.folder / "lines" / "selection.jsonl")
    assert lines.cast(found.table.schema).equals(found.table)


def test_nearest_rows_alone_and_how_many_picks_are_certain(files: Files) -> None:
    found = select_queries(settings_of(files, selection={"nearest": 20}))
    assert found.table.equals(expected(files, nearest=20))
    assert 0 <= found.metrics["picks_certain"] <= NUM_QUERIES * N
    with pytest.raises(ConfigError, match=r"selection.nearest=20 goes with target.query_column"):
        files.settings(selection={"nearest": 20})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"selection": {"budget": 3.0}}, "selection.budget=3.0"),
        ({"selection": {"min_distance": 0.1}}, "selection.min_distance=0.1"),
        ({"selection": {"near_target": "exclude"}}, "selection.near_target=exclude"),
        ({"selection": {"explain": True}}, "selection.explain=True"),
        ({"target": {"task_column": "prompt"}}, "target.task_column=prompt"),
        ({"state": {"dir": "state"}}, "state.dir=state"),
        ({"acquisition": {"name": "nearest"}}, "acquisition.name=nearest"),
    ],
)
def test_options_that_do_not_go_with_queries_are_named(files: Files, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"{words} does not go with target.query_column"):
        select_queries(settings_of(files, **changes))
    assert not (files.folder / "run").exists()


def test_a_floor_is_set_by_the_targets_of_each_query(files: Files) -> None:
    """A share of the pool is another number for each; a number leaves some queries few rows, or none."""
    found = select_queries(settings_of(files, selection={"min_similarity": "99.3%"}))
    assert found.metrics["queries_short"] == NUM_QUERIES
    assert found.table.column("rank").to_pylist() == [1, 2, 3] * NUM_QUERIES
    assert len(found.table.column("min_similarity").unique()) == NUM_QUERIES
    summary = summarise_queries(found).text
    assert "9 queries have fewer picks than asked for: no further row has the cosine to a target of theirs" in summary
    assert found.table.equals(expected(files, min_similarity="99.3%"))
    fixed = select_queries(settings_of(files, "fixed", selection={"min_similarity": 0.985}))
    sizes = pa.table(fixed.table.column("query").value_counts().flatten(), names=["query", "picks"])
    assert 0 < len(sizes) < NUM_QUERIES
    for run in ("run", "fixed"):
        checked = verify(VerifySettings(run=FinishedRun(str(files.folder / run)), sample=300))
        assert checked.right, checked.summary().text
    plan = plan_queries(settings_of(files, "plan", selection={"min_similarity": 0.985}))
    assert plan.passes == (2 * NUM_QUERIES, 2 * NUM_QUERIES)
    with pytest.raises(ConfigError, match=r"selection\.nearest=9 does not go with selection\.min_similarity"):
        select_queries(settings_of(files, "near", selection={"min_similarity": 0.5, "nearest": 9}))


@pytest.mark.parametrize("asked", ["90%", 0.5])
def test_a_floor_of_queries_that_is_tampered_with_is_found_out(files: Files, asked: Any) -> None:
    select_queries(settings_of(files, selection={"min_similarity": asked}))
    for path in (files.folder / "run" / "queries").iterdir():
        table = pq.read_table(path)
        place = table.column_names.index("floor")
        lower = pa.array(table["floor"].to_numpy() - 0.01)
        pq.write_table(table.set_column(place, "floor", lower), path)
    found = verify(VerifySettings(run=FinishedRun(str(files.folder / "run")), sample=300))
    assert any("says that selection.min_similarity=" in text for text in found.contradictions)


def test_a_plan_counts_queries_and_leaves_nothing(files: Files) -> None:
    plan = plan_queries(settings_of(files))
    assert plan.passes == (NUM_QUERIES, NUM_QUERIES)
    assert any("9 queries of 4 picks" in line for line in plan.told)
    assert not (files.folder / "run").exists()


def test_a_sample_of_queries_is_verified(files: Files) -> None:
    select_queries(settings_of(files))
    folder = files.folder / "run"
    found = verify(VerifySettings(run=FinishedRun(str(folder)), sample=200))
    assert found.right, found.summary().text
    assert found.num_steps == NUM_QUERIES * N
    for path in [folder / "selection.parquet", *sorted((folder / "queries").iterdir())]:
        table = pq.read_table(path)
        gains = pa.array(table["gain"].to_numpy() * 1.001)
        pq.write_table(table.set_column(table.column_names.index("gain"), "gain", gains), path)
    assert len(verify(VerifySettings(run=FinishedRun(str(folder)))).wrong_gains) == NUM_QUERIES * N


def test_other_picks_than_the_best_are_found(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selector, "_FETCHED", 5)
    settings = settings_of(files, pool={"storage": "disk"})  # where queries share passes
    with monkeypatch.context() as patch:
        patch.setattr(selector.ManySelector, "_verify", _believe)
        select_queries(settings)
    found = verify(VerifySettings(run=FinishedRun(str(files.folder / "run")), sample=300))
    assert found.wrong
    assert not found.wrong_gains


def _believe(self: selector.ManySelector, queries: Any, table: Any, n: int) -> None:
    """Take what was picked among few rows for picks of the whole pool."""
    del self, table
    for each in queries:
        each.verified = n


def test_texts_are_embedded_and_what_was_guessed_is_said(tmp_path: Path) -> None:
    rows = [{"text": f"word{k % 7} word{k % 5} word{k}"} for k in range(30)]
    prompts = [{"text": f"word{k} word{k + 1}", "prompt": f"p{k}"} for k in range(3)]
    for name, lines in (("pool", rows), ("prompts", prompts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = CurationSettings(
        pool=PoolSettings(str(tmp_path / "pool.jsonl")),
        target=TargetSettings(str(tmp_path / "prompts.jsonl"), query_column="prompt"),
        encoder=EncoderSettings("tests.user_encoders:words", cache=str(tmp_path / "cache")),
        selection=SelectionSettings(4),
        cluster=ClusterSettings(0),
    )
    told: list[str] = []
    reporter = Reporter("quiet")
    reporter.info = told.append  # type: ignore[method-assign]
    found = select_queries(settings, reporter=reporter)
    assert found.table.column("query").to_pylist() == [f"p{k}" for k in range(3) for _ in range(4)]
    assert any("column 'text' is embedded" in line for line in told)
