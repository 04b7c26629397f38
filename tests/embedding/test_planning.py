"""A plan says rows, seconds and room, and leaves nothing behind."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_itl.embedding import planning
from ray_itl.embedding.job import embed_pool
from ray_itl.embedding.planning import planned_embedding
from ray_itl.embedding.settings import (
    EmbeddingModelSettings,
    EmbedJobSettings,
    EmbedRunSettings,
    OutputSettings,
    RawPoolSettings,
    WorkerSettings,
)
from ray_itl.errors import ConfigError, RunDirectoryError
from tests.embedding.embedding_helpers import MLP, raw_table
from tests.jobs.helpers import compose_job, load_job


def settings(folder: Path, workers: object = 0, **output: object) -> EmbedJobSettings:
    return EmbedJobSettings(
        pool=RawPoolSettings(str(folder / "pool"), raw_column="image", columns=["label"]),
        model=EmbeddingModelSettings(MLP.name, MLP.options),
        output=OutputSettings(**{"part_rows": 64, **output}),
        cluster=WorkerSettings(num_workers=workers),
        run=EmbedRunSettings(str(folder / "run"), log="quiet"),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pool").mkdir()
    pq.write_table(raw_table(300), tmp_path / "pool" / "a.parquet")
    return tmp_path


def test_rows_seconds_and_room(folder: Path) -> None:
    plan = planned_embedding(settings(folder))
    assert (plan.num_rows, plan.num_left, plan.num_bad, plan.dim) == (300, 300, 0, 12)
    assert 200 <= plan.num_measured <= 256
    assert plan.seconds == pytest.approx(300 / plan.rows_per_s)
    assert plan.size == pytest.approx(300 * (12 * 4 + 8 + 8), rel=0.1)  # embedding, id, label
    assert not (folder / "run").exists()
    for line in ("300 rows", "12 x float32", "this process", "rows/s, from", " free", "Nothing was run or kept."):
        assert line in plan.table()
    half = planned_embedding(settings(folder, dtype="float16"))
    assert half.size == pytest.approx(plan.size - 300 * 24, rel=0.01)


def test_rows_that_are_there_already_are_left_out(folder: Path) -> None:
    embed_pool(settings(folder))
    assert planned_embedding(settings(folder)).num_left == 0
    pq.write_table(raw_table(70, first_id=300), folder / "pool" / "b.parquet")
    plan = planned_embedding(settings(folder))
    assert (plan.num_rows, plan.num_left) == (370, 70)
    assert "370 rows, 300 of them embedded already" in plan.table()
    assert json.loads((folder / "run" / "status.json").read_text())["state"] == "finished"  # nothing was touched
    with pytest.raises(RunDirectoryError, match=r"output\.dtype"):
        planned_embedding(settings(folder, dtype="float16"))


def test_workers_are_reckoned_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_rate", lambda *_: 100.0)
    monkeypatch.setattr(planning.torch, "get_num_threads", lambda: 2)
    assert planned_embedding(settings(folder)).rows_per_s == 100
    assert planned_embedding(settings(folder, "auto")).rows_per_s == 100
    plan = planned_embedding(settings(folder, 8))
    assert (plan.rows_per_s, plan.workers) == (400, "8 on Ray, of 1 CPUs")


def test_a_disk_that_cannot_hold_it_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = planning.shutil.disk_usage(folder)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(ConfigError, match=r"its disk has 100 B free"):
        planned_embedding(settings(folder))


def test_the_command_plans(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"pool.path={folder / 'pool'}", "pool.raw_column=image", "model.name=mlp", "cluster.num_workers=0"]
    given += ["model.options={input_dim:64,classes:4,hidden:[24,12]}", f"run.dir={folder / 'run'}", "plan=true"]
    load_job("embed").main(compose_job("embed", *given))
    out = capsys.readouterr().out
    assert "embedding 300 rows would take about" in out
    assert not (folder / "run").exists()
