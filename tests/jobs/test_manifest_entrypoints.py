"""What the manifests of jobs/kubernetes run, run for real: submitted to a local head that asks for a token.

Only paths are put in place: what a manifest mounts is a folder here, and the image's folder is this project.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
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


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """A pool of 1,101 rows for each manifest, and the folder of its runs."""
    folder = tmp_path_factory.mktemp("manifests")
    return {name: Files(folder / name, num_rows=1101) for name in ("rayjob.yaml", "raycronjob.yaml", "cronjob.yaml")}


@pytest.fixture(scope="module")
def ends(head: Head, data: dict[str, Files]) -> dict[str, Ran[str]]:
    """The ends of all three, run side by side."""
    commands = {name: as_kuberay(name, data[name].folder) for name in ("rayjob.yaml", "raycronjob.yaml")}
    commands["cronjob.yaml"] = as_cron_job(data["cronjob.yaml"].folder)
    with ThreadPoolExecutor() as together:
        running = {name: together.submit(run, head, command) for name, command in commands.items()}
        return {name: each.result() for name, each in running.items()}


def run_folder(name: str, files: Files) -> Path:
    days = {datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=back) for back in (0, 1)}
    names = ["first"] if name == "rayjob.yaml" else [str(day) for day in days]
    (folder,) = [files.folder / "runs" / each for each in names if (files.folder / "runs" / each).exists()]
    return folder


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycronjob.yaml", "cronjob.yaml"])
def test_the_entrypoint_leaves_the_right_picks(data: dict[str, Files], ends: dict[str, Ran[str]], name: str) -> None:
    assert ends[name].returncode == 0, ends[name].stdout + ends[name].stderr
    files = data[name]
    picks = pq.read_table(run_folder(name, files) / "selection.parquet").column("id").to_pylist()
    assert picks == select(files.pool, files.target, 1000).ids


def test_nothing_tells_the_token_or_credentials(head: Head, data: dict[str, Files], ends: dict[str, Ran[str]]) -> None:
    """Neither files of the runs, nor logs of the jobs, nor what was printed where they were submitted."""
    texts = [end.stdout + end.stderr for end in ends.values()]
    jobs = head.get("/api/jobs/")
    texts += [json.dumps(jobs), *(head.get(f"/api/jobs/{job['submission_id']}/logs")["logs"] for job in jobs)]
    texts += [p.read_bytes().decode("latin1") for f in data.values() for p in f.folder.rglob("*") if p.is_file()]
    assert len(jobs) >= 3
    assert sum("picked 1,000 of 1,101 rows" in text for text in texts) >= 3
    for name in SECRETS:
        assert not [text for text in texts if head.environment[name] in text], name


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
