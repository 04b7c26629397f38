"""`ray job submit` to a cluster that asks for a token: what a job leaves, what its logs say, what it refuses."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pyarrow.parquet as pq
import pytest

from ray_itl import select
from tests.helpers import Files
from tests.jobs.helpers import ROOT

BIN = Path(sys.executable).parent
START_S = 90.0


@dataclass(frozen=True)
class Head:
    """A running head node."""

    url: str
    environment: dict[str, str]

    def get(self, path: str, token: bool = True) -> dict:
        """Ask the dashboard; OSError (HTTPError) if it does not answer or refuses."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"} if token else {}
        with urlopen(Request(self.url + path, headers=headers), timeout=30) as reply:
            return json.load(reply)

    def submit(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run jobs/curate.py as the README says; returns when the job has ended."""
        job = ["ray", "job", "submit", "--address", self.url, "--submission-id", name, "--working-dir", "."]
        command = [str(BIN / job[0]), *job[1:], "--", "python", "jobs/curate.py", *options]
        ran = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=150, check=False
        )
        if "prematurely been deleted from the GCS" in ran.stderr + ran.stdout and not name.endswith("-again"):
            return self.submit(f"{name}-again", *options)  # a race in Ray's upload (ray-project/ray issue 46625)
        return ran


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def await_start(head: Head, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            head.get("/api/jobs/")
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"no head node after {START_S:.0f} s: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head node with its own ports, folder and token; only this process and its children are ended."""
    gcs, dashboard, agent, metrics, client = free_ports(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment["PATH"] = f"{BIN}{os.pathsep}{environment.get('PATH', os.defpath)}"  # where jobs find python
    # Directly in /tmp: Ray's sockets live below, and the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="itl-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [
            *(str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"),
            *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={folder}/ray"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}"),
            f"--object-store-memory={120 * 2**20}",
        ]
        log = Path(folder) / "head.log"
        with log.open("w") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            head = Head(f"http://127.0.0.1:{dashboard}", environment)
            await_start(head, process, log)
            yield head
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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
