"""What the manifests of jobs/kubernetes run, run for real: submitted to a local head that asks for a token.

Only paths are put in place: what a manifest mounts is a folder here, and the image's folder is this project.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_itl import select
from tests.deploy.manifests import MANIFESTS, found, pods, ray_job_spec
from tests.deploy.test_dockerfile import TEXT, instructions
from tests.helpers import Files
from tests.jobs.head import SECRETS, Head
from tests.jobs.helpers import ROOT

WORKDIR = dict(instructions(TEXT))["WORKDIR"]
Ran = subprocess.CompletedProcess


def placed(text: str, data: Path) -> str:
    """Return a command with the paths of this machine."""
    ((mount,),) = {tuple(m["mountPath"] for m in mounts) for mounts in found(MANIFESTS["cronjob.yaml"], "volumeMounts")}
    return text.replace(WORKDIR, str(ROOT)).replace(f"{mount}/", f"{data}/")


def as_kuberay(name: str, data: Path) -> list[str]:
    """Return what KubeRay's submitter runs: the entrypoint unquoted, in a shell."""
    entrypoint = placed(ray_job_spec(name)["entrypoint"], data)
    return ["bash", "-c", f"ray job submit --submission-id {name} -- {entrypoint}"]


def as_cron_job(data: Path) -> list[str]:
    """Return what the container of the CronJob runs."""
    (container,) = pods(MANIFESTS["cronjob.yaml"])[0]["spec"]["containers"]
    return [*container["command"], placed(container["args"][0], data)]


def run(head: Head, command: list[str]) -> Ran[str]:
    return head.run(command, RAY_API_SERVER_ADDRESS=head.url)


def run_folder(files: Files) -> Path:
    today = datetime.datetime.now(datetime.UTC).date()
    names = ["first", str(today), str(today - datetime.timedelta(days=1))]
    (folder,) = [files.folder / "runs" / name for name in names if (files.folder / "runs" / name).exists()]
    return folder


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycronjob.yaml", "cronjob.yaml"])
def test_the_entrypoint_leaves_the_right_picks_and_tells_no_secret(head: Head, tmp_path: Path, name: str) -> None:
    """Neither files of the run, nor logs of the job, nor what was printed where it was submitted, have one in them."""
    files = Files(tmp_path / "data", num_rows=1101)
    ended = run(head, as_cron_job(files.folder) if name == "cronjob.yaml" else as_kuberay(name, files.folder))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = run_folder(files)
    picks = pq.read_table(folder / "selection.parquet").column("id").to_pylist()
    assert picks == select(files.pool, files.target, 1000).ids
    job = json.loads((folder / "manifest.json").read_text())["submission_id"]
    texts = [ended.stdout, ended.stderr, json.dumps(head.get(f"/api/jobs/{job}"))]
    texts += [head.get(f"/api/jobs/{job}/logs")["logs"]]
    assert "picked 1,000 of 1,101 rows" in texts[-1]
    texts += [path.read_bytes().decode("latin1") for path in files.folder.rglob("*") if path.is_file()]
    for secret in SECRETS:
        assert not [text for text in texts if head.environment[secret] in text], secret


@pytest.mark.slow
def test_the_next_pod_of_the_cron_job_takes_over_from_one_that_died(head: Head, tmp_path: Path) -> None:
    files = Files(tmp_path / "data", num_rows=6000)
    command = as_cron_job(files.folder)
    command[-1] = command[-1].replace("curate-", "takeover-").replace("selection.n=1000", "selection.n=3000")
    environment = head.environment | {"RAY_API_SERVER_ADDRESS": head.url}
    died = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not list(files.folder.glob("runs/*/ledger/block-*")):
        assert time.monotonic() < deadline
        assert died.poll() is None
        time.sleep(0.1)
    os.killpg(died.pid, 9)
    died.wait()
    ended = run(head, command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "picks are in the ledger already" in ended.stdout
    (folder,) = (files.folder / "runs").iterdir()
    picks = pq.read_table(folder / "selection.parquet").column("id").to_pylist()
    assert picks == select(files.pool, files.target, 3000).ids
