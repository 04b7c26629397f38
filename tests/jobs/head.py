"""A Ray head node for tests of submitted jobs: started with a token, ended without touching any other."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.jobs.helpers import ROOT

BIN = Path(sys.executable).parent
START_S = 240.0
SECRETS = ("RAY_AUTH_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Environment variables of the head and its jobs whose values nobody should read anywhere."""


@dataclass(frozen=True)
class Head:
    """A running head node."""

    url: str
    gcs: str
    """Address at which nodes and drivers join."""
    environment: dict[str, str]
    pid: int
    """Of the process above all of Ray's on this node."""
    logs: Path
    """Where the newest session's logs are."""

    def get(self, path: str, token: bool = True) -> dict:
        """Ask the dashboard; OSError (HTTPError) if it does not answer or refuses."""
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"} if token else {}
        with urlopen(Request(self.url + path, headers=headers), timeout=30) as reply:
            return json.load(reply)

    def run(self, command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that talks to the head, and wait for its end."""
        environment = self.environment | variables
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    def submit(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run jobs/curate.py as the README says; returns when the job has ended."""
        job = ["ray", "job", "submit", "--address", self.url, "--submission-id", name, "--working-dir", "."]
        ran = self.run([str(BIN / job[0]), *job[1:], "--", "python", "jobs/curate.py", *options])
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


@contextmanager
def running_head(**variables: str) -> Iterator[Head]:
    """A head node with its own ports, folder, token and variables; only this process and its children are ended."""
    gcs, dashboard, agent, metrics, client = free_ports(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= variables | {"RAY_AUTH_MODE": "token", **{name: secrets.token_hex(32) for name in SECRETS}}
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
            head = Head(
                f"http://127.0.0.1:{dashboard}",
                f"127.0.0.1:{gcs}",
                environment,
                process.pid,
                Path(folder, "ray/session_latest/logs"),
            )
            await_start(head, process, log)
            yield head
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
