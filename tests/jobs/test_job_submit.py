"""`ray job submit` to a cluster that asks for a token: what a job leaves, what its logs say, what it refuses."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError

import pyarrow.parquet as pq
import pytest

from ray_itl import select
from tests.helpers import Files
from tests.jobs.head import Head

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("submitted"))


@pytest.fixture(scope="module")
def jobs(head: Head, files: Files) -> dict[str, subprocess.CompletedProcess[str]]:
    """Jobs with an absolute run.dir, a relative one, and a state directory, all at their end."""
    rows = [f"pool.path={files.pool}", f"target.path={files.target}", "selection.n=12", "run.report=false"]
    shards = ["cluster.num_shards=2", "cluster.cpus_per_shard=0.5"]
    places = {"absolute": f"run.dir={files.folder / 'run'}", "relative": "run.dir=runs/here"}
    places["tick"] = f"state.dir={files.folder / 'state'}"
    with ThreadPoolExecutor() as all_at_once:
        ends = {name: all_at_once.submit(head.submit, name, *rows, *shards, place) for name, place in places.items()}
        return {name: end.result() for name, end in ends.items()}


def test_the_cluster_asks_for_a_token(head: Head) -> None:
    with pytest.raises(HTTPError) as refused:
        head.get("/api/jobs/", token=False)
    refused.value.close()
    assert refused.value.code == 401


def test_a_job_leaves_what_a_run_in_this_process_finds(files: Files, jobs: dict) -> None:
    assert jobs["absolute"].returncode == 0, jobs["absolute"].stdout
    run = files.folder / "run"
    found = pq.read_table(run / "selection.parquet").column("id").to_pylist()
    assert found == select(files.pool, files.target, 12).ids
    assert {path.name for path in run.iterdir()} >= {"selection.parquet", "metrics.json", "config.yaml", "ledger"}
    assert json.loads((run / "manifest.json").read_text())["submission_id"].removesuffix("-again") == "absolute"


def test_progress_and_summary_are_in_the_logs_of_the_job(head: Head, files: Files, jobs: dict) -> None:
    assert jobs["absolute"].returncode == 0
    name = json.loads((files.folder / "run" / "manifest.json").read_text())["submission_id"]
    logs = head.get(f"/api/jobs/{name}/logs")["logs"]
    for line in ("loading 300 rows x 8 on Ray", "picked 12 of 12", f"results: {files.folder / 'run'}"):
        assert line in logs
        assert line in jobs["absolute"].stdout
    assert head.get(f"/api/jobs/{name}")["status"] == "SUCCEEDED"


def test_a_relative_run_dir_is_refused_under_submission(jobs: dict) -> None:
    assert jobs["relative"].returncode != 0
    assert "error: run.dir=runs/here must be an absolute path under ray job submit" in jobs["relative"].stdout
    assert "Traceback" not in jobs["relative"].stdout


def test_a_tick_is_published_by_a_job(files: Files, jobs: dict) -> None:
    assert jobs["tick"].returncode == 0, jobs["tick"].stdout
    assert "3 new files with 300 rows; picked 12 of 300" in jobs["tick"].stdout
    (tick,) = pq.read_table(files.folder / "state" / "ticks.parquet").to_pylist()
    assert tick["submission_id"].removesuffix("-again") == "tick"
    found = pq.read_table(files.folder / "state" / tick["path"] / "selection.parquet").column("id").to_pylist()
    assert found == select(files.pool, files.target, 12).ids
