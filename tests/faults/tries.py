"""One try at a job: started with a plan of faults or without, and what came of it."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import processes
from tests.faults.injection import Plan
from tests.jobs.helpers import ROOT

JOB = str(ROOT / "jobs" / "curate.py")
KILLED = -signal.SIGKILL
BUSY, BAD_INPUT, FAILED, STOPPED = os.EX_TEMPFAIL, 2, 1, 128 + signal.SIGTERM
HUNG = "hung"
LIMIT_S = 400.0
MARK = "ITL_FAULTS_TRY"

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(
    [
        "tests.faults.launch",
        "ray_itl.curation.planning",
        "ray_itl.ticks.tick",
        "hydra",
        "jinja2",
        "plotly.graph_objects",
    ]
)


@dataclass(frozen=True)
class Try:
    """How a try ended."""

    exit: int
    seconds: float
    output: str
    """What it said, standard error included."""
    struck: bool
    """Whether the fault came before it ended."""

    @property
    def error(self) -> str:
        """The line that says why it failed, or ""."""
        return next((line for line in self.output.splitlines() if line.startswith("error: ")), "")

    def complaint(self) -> str:
        """Say what is wrong with the way it ended, or ""."""
        if self.exit in (0, KILLED, -signal.SIGTERM):  # the last while the interpreter ends
            return ""
        if "Traceback (most recent call last)" in self.output or "this is a bug of ray_itl" in self.output:
            return f"an error that nobody foresaw: {self.output[-1500:]}"
        if self.exit not in (BUSY, BAD_INPUT, FAILED, STOPPED):
            return f"exit code {self.exit}: {self.output[-500:]}"
        return "" if self.error else f"exit code {self.exit} without a reason: {self.output[-500:]}"

    def told(self) -> dict[str, object]:
        """What the table of results keeps."""
        return {"exit": self.exit, "seconds": round(self.seconds, 1), "struck": self.struck, "error": self.error[:300]}


def in_process(options: Sequence[str], folder: Path, plan: Plan | None = None) -> Try:
    """Run jobs/curate.py in a process forked from one that has its libraries: for runs without Ray."""
    output, count = _fresh(folder, "output"), folder / "count"
    process = _FORKSERVER.Process(target=_forked, args=(plan, list(options), str(folder), str(output), str(count)))
    began = time.monotonic()
    process.start()
    process.join(LIMIT_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"a try hangs: {options}; {output.read_text()[-1000:]}")
    return Try(process.exitcode, time.monotonic() - began, output.read_text(errors="replace"), _struck(plan))


def operations(folder: Path) -> int:
    """Return how many operations the last try in a folder counted."""
    return int((folder / "count").read_text())


def on_ray(options: Sequence[str], folder: Path, environment: Mapping[str, str], plan: Plan | None = None) -> Try:
    """Run jobs/curate.py in a new interpreter; whatever it leaves running is ended."""
    output, mark = _fresh(folder, "output"), secrets.token_hex(8)
    command = [sys.executable, JOB, *options]
    if plan is not None:
        path = folder / "plan.json"
        path.write_text(plan.to_json())
        command = [sys.executable, "-m", "tests.faults.launch", str(path), *command[1:]]
    began = time.monotonic()
    variables = {**environment, MARK: mark, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=file, stderr=file)
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a try hangs: {options}; {output.read_text()[-1000:]}") from None
        finally:
            process.kill()  # where it hangs, or this harness is told to stop; else it has ended
            if "RAY_ADDRESS" not in environment:  # else its shards are the cluster's, which ends them
                processes.await_end(MARK, mark, 15)
    return Try(code, time.monotonic() - began, output.read_text(errors="replace"), _struck(plan))


def _forked(plan: Plan | None, options: list[str], folder: str, output: str, count: str) -> None:
    import torch

    from tests.faults.launch import launch

    handle = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.chdir(folder)
    torch.set_num_threads(1)
    launch(plan, JOB, options, count)


def _fresh(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob(f"{name}-*")))
    return folder / f"{name}-{number}.txt"


def _struck(plan: Plan | None) -> bool:
    return plan is not None and bool(plan.struck) and Path(plan.struck).exists()
