"""What the manifests of jobs/kubernetes run, run for real: submitted to a local head that asks for a token.

Only paths are put in place: what a manifest mounts is a folder here.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.cli.config import to_settings
from ray_itl.curation.settings import CurationSettings
from ray_itl.ticks.state import State
from ray_itl.ticks.tick import Tick, run_tick
from tests.deploy.manifests import MANIFESTS, found, pods, ray_job_spec
from tests.helpers import Files
from tests.jobs.head import SECRETS, Head
from tests.jobs.helpers import compose_job
from tests.ticks.helpers import Growing

pytestmark = pytest.mark.cluster
Ran = subprocess.CompletedProcess


def placed(text: str, data: Path) -> str:
    """Return a command with the paths of this machine."""
    ((mount,),) = {tuple(m["mountPath"] for m in mounts) for mounts in found(MANIFESTS["cronjob.yaml"], "volumeMounts")}
    return text.replace(f"{mount}/", f"{data}/")


def as_kuberay(name: str, data: Path) -> list[str]:
    """Return what KubeRay's submitter runs: the entrypoint unquoted, in a shell."""
    entrypoint = placed(ray_job_spec(name)["entrypoint"], data)
    return ["bash", "-c", f"ray job submit --submission-id {name} -- {entrypoint}"]


def as_cron_job(data: Path) -> list[str]:
    """Return what the container of the CronJob runs."""
    (container,) = pods(MANIFESTS["cronjob.yaml"])[0]["spec"]["containers"]
    return [*container["command"], placed(container["args"][0], data)]


def run(head: Head, command: list[str], **variables: str) -> Ran[str]:
    return head.run(command, RAY_API_SERVER_ADDRESS=head.url, **variables)


def tell_no_secret(head: Head, folder: Path, ended: Ran[str], job: str) -> str:
    """Neither files, nor the job, nor what was printed where it was submitted; returns the logs of the job."""
    logs = head.get(f"/api/jobs/{job}/logs")["logs"]
    texts = [ended.stdout, ended.stderr, json.dumps(head.get(f"/api/jobs/{job}")), logs]
    texts += [path.read_bytes().decode("latin1") for path in folder.rglob("*") if path.is_file()]
    for secret in SECRETS:
        assert not [text for text in texts if head.environment[secret] in text], secret
    return logs


def scheduled(day: str) -> str:
    """Return the name of the Job that a CronJob makes for three o'clock of a day."""
    due = datetime.datetime.fromisoformat(f"{day}T03:00:00+00:00")
    return f"{MANIFESTS['cronjob.yaml']['metadata']['name']}-{int(due.timestamp()) // 60}"


def in_this_process(growing: Growing, name: str) -> Tick:
    """Do what a night does, in another state."""
    options = [word for word in ray_job_spec("raycronjob.yaml")["entrypoint"].split() if word.startswith("selection.")]
    paths = [f"pool.path={growing.pool}", f"target.path={growing.target}", f"state.dir={growing.folder / 'other'}"]
    more = [f"state.tick={name}", "cluster.num_shards=0", "run.log=quiet"]
    return run_tick(to_settings(compose_job("curate", *options, *paths, *more), CurationSettings))


def test_one_run_leaves_the_right_picks(head: Head, tmp_path: Path) -> None:
    files = Files(tmp_path / "data", num_rows=1101)
    ended = run(head, as_kuberay("rayjob.yaml", files.folder))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = files.folder / "runs" / "first"
    picks = pq.read_table(folder / "selection.parquet").column("id").to_pylist()
    assert picks == select(files.pool, files.target, 1000).ids
    job = json.loads((folder / "manifest.json").read_text())["submission_id"]
    assert "picked 1,000 of 1,101 rows" in tell_no_secret(head, files.folder, ended, job)


@pytest.mark.timeout(900)  # a minute, where nothing else runs
def test_two_nights_over_a_growing_pool(head: Head, tmp_path: Path) -> None:
    """The first by RayCronJob, the second by CronJob: both work on the same state, and the second picks what is new."""
    growing = Growing(tmp_path / "data", rows=200)
    growing.grow(0, 1)
    first = run(head, as_kuberay("raycronjob.yaml", growing.folder))
    assert first.returncode == 0, first.stdout + first.stderr
    one = in_this_process(growing, "one")
    growing.grow(2)
    second = run(head, as_cron_job(growing.folder), JOB_NAME=scheduled("2026-02-03"))
    assert second.returncode == 0, second.stdout + second.stderr
    two = in_this_process(growing, "two")

    ticks = growing.history()
    today = datetime.datetime.now(datetime.UTC).date()
    assert ticks[0]["tick"] in (str(today), str(today - datetime.timedelta(days=1)))
    assert (ticks[1]["tick"], ticks[1]["new_files"], ticks[1]["new_rows"]) == ("2026-02-03", 1, 200)
    other = State(str(growing.folder / "other")).store
    for tick, ended, reference in zip(ticks, (first, second), (one, two), strict=True):
        picks = State(growing.location).store.read_table(f"{tick['path']}/selection.parquet").column("id").to_pylist()
        assert picks == other.read_table(f"{reference.record.path}/selection.parquet").column("id").to_pylist()
        assert {number // 1000 for number in picks} <= ({2} if tick is ticks[1] else {0, 1})
        assert f"picked {len(picks):,} of" in tell_no_secret(head, growing.folder, ended, tick["submission_id"])
    status = json.loads((growing.folder / "state" / "status.json").read_text())
    assert (status["state"], status["tick"], status["submission_id"]) == ("finished", "2026-02-03", "tick-2026-02-03")


@pytest.mark.slow
@pytest.mark.timeout(900)  # three submissions, each of which starts Ray's clients several times
def test_the_next_pod_of_the_cron_job_takes_over_from_one_that_died(head: Head, tmp_path: Path) -> None:
    """The job that it left hangs, so that it can neither finish meanwhile nor clear up when it is told to end."""
    files = Files(tmp_path / "data", num_rows=6000)
    command = as_cron_job(files.folder)
    changes = {
        "selection.n=1000": "selection.n=3000",
        "selection.min_gain=0.001": "",
        "wait_s": "lease_s=5 state.wait_s",
    }
    for old, new in changes.items():
        command[-1] = command[-1].replace(old, new)
    job = scheduled("2026-02-04")
    environment = head.environment | {"RAY_API_SERVER_ADDRESS": head.url, "JOB_NAME": job}
    pod = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        left = await_picks(files.folder / "state" / "status.json", pod)
        os.kill(left["pid"], signal.SIGSTOP)
    finally:
        os.killpg(pod.pid, signal.SIGKILL)
        pod.wait()
    ended = run(head, command, JOB_NAME=job)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "picks are in the ledger already" in ended.stdout
    (tick,) = pq.read_table(files.folder / "state" / "ticks.parquet").to_pylist()
    picks = pq.read_table(files.folder / "state" / tick["path"] / "selection.parquet").column("id").to_pylist()
    assert picks == select(files.pool, files.target, 3000).ids
    again = run(head, command, JOB_NAME=job)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "tick 2026-02-04 was published already" in again.stdout


def await_picks(path: Path, pod: subprocess.Popen) -> dict[str, Any]:
    deadline = time.monotonic() + 500
    while True:
        status = json.loads(path.read_text()) if path.exists() else {}
        if status.get("num_picked"):
            return status
        assert time.monotonic() < deadline
        assert pod.poll() is None
        time.sleep(0.05)
