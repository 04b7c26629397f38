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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("submitted"))


@pytest.fixture(scope="module")
def jobs(head: Head, files: Files) -> dict[str, subprocess.CompletedProcess[str]]:
    """One job with an absolute run.dir and one with a relative one, both at their end."""
    rows = [f"pool.path={files.pool}", f"target.path={files.target}", "selection.n=12", "run.report=false"]
    shards = ["cluster.num_shards=2", "cluster.cpus_per_shard=0.5"]
    folders = {"absolute": str(files.folder / "run"), "relative": "runs/here"}
    with ThreadPoolExecutor() as both:
        ends = {name: both.submit(head.submit, name, *rows, *shards, f"run.dir={d}") for name, d in folders.items()}
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
