"""The recipes for Slurm, SkyPilot, Airflow, Dagster and cron do what they say.

None of these systems is at hand: their commands and classes are stood in for, the scripts themselves are run. Those of
cron, Airflow and Dagster run real ticks.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml

from ray_itl.cli.arguments import readable_by_hydra
from tests.deploy.manifests import ROOT
from tests.jobs.helpers import compose_job, load_job
from tests.ticks.helpers import Growing

JOBS = ROOT / "jobs"
SCRIPTS = {
    "slurm": (JOBS / "slurm" / "curate.sbatch").read_text(),
    "cron": (JOBS / "nightly" / "cron.sh").read_text(),
}
SKY = yaml.safe_load((JOBS / "skypilot" / "curate.yaml").read_text())
SCRIPTS |= {"sky setup": SKY["setup"], "sky run": SKY["run"]}
Ran = subprocess.CompletedProcess[str]


class Stage:
    """A folder whose commands stand before all others; each writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.calls_file = folder, folder / "bin", folder / "calls"
        self.bin.mkdir()
        self.calls_file.touch()

    def command(self, name: str, body: str = "") -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >> "{self.calls_file}"\n{body}\n')
        path.chmod(0o755)

    def run(self, script: str, *arguments: str, **variables: str) -> Ran:
        paths = os.pathsep.join([str(self.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": paths, "HOME": str(self.folder), **variables}
        return subprocess.run(
            ["bash", "-c", script, "recipe", *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_shell(name: str) -> None:
    parsed = subprocess.run(["bash", "-n", "-c", SCRIPTS[name]], capture_output=True, text=True, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, "")
    assert "set -" in SCRIPTS[name] or name == "sky setup"


def composed(words: list[str]) -> Any:
    """The configuration that a command of ours is for, without what the shell would fill in."""
    load_job("curate")
    return compose_job("curate", *(readable_by_hydra(word) for word in words))


SLURM = {
    "SLURM_JOB_ID": "123456",
    "SLURM_JOB_NODELIST": "node[1-4]",
    "SLURM_JOB_NUM_NODES": "4",
    "SLURM_CPUS_PER_TASK": "32",
}
_SYMMETRIC = 'while [[ $1 != -- ]]; do shift; done; shift; "$@"'
"""What `ray symmetric-run` does on the head, once there is a cluster."""


def _on_slurm(stage: Stage, ray: str = _SYMMETRIC, ray_itl: str = "") -> Ran:
    stage.command("scontrol", 'if [[ $1 = show ]]; then printf "node1\\nnode2\\n"; fi')
    stage.command("srun", 'while [[ $1 = --* ]]; do shift; done; "$@"')
    stage.command("ray", ray)
    stage.command("ray-itl", ray_itl)
    return stage.run(SCRIPTS["slurm"], "pool.path=/data/my pool", "run.dir=/data/runs/first", **SLURM)


def test_slurm_runs_the_command_on_the_head_of_all_nodes(stage: Stage) -> None:
    ran = _on_slurm(stage)
    assert ran.returncode == 0, ran.stderr
    srun, ray, curate = [call for call in stage.calls if not call.startswith("scontrol")]
    assert srun.startswith("srun --nodes=4 --ntasks=4 ray symmetric-run")
    assert "--address node1:23456 --min-nodes 4 --num-cpus 32 -- bash" in ray
    assert curate == "ray-itl curate cluster.address=node1:23456 pool.path=/data/my pool run.dir=/data/runs/first"
    assert not list(stage.folder.glob(".ray-itl-*"))
    directives = [line for line in SCRIPTS["slurm"].splitlines() if line.startswith("#SBATCH --")]
    assert len(directives) >= 9
    assert not any(line.startswith("#SBATCH") for line in SCRIPTS["slurm"].split("set -euo pipefail")[1].splitlines())
    composed(["cluster.address=node1:23456", "pool.path=/data/my pool", "run.dir=/data/runs/first"])


@pytest.mark.parametrize(
    ("ray", "ray_itl", "code"), [("exit 0", "", 1), (_SYMMETRIC, "exit 2", 2), (_SYMMETRIC, "exit 75", 75)]
)
def test_slurm_is_told_of_a_run_that_did_not_end_well(stage: Stage, ray: str, ray_itl: str, code: int) -> None:
    assert _on_slurm(stage, ray, ray_itl).returncode == code


def test_slurm_queues_a_run_anew_when_its_time_is_nearly_up(stage: Stage) -> None:
    stage.command("scontrol", "if [[ $1 = show ]]; then echo node1; fi")
    stage.command("srun", "kill -USR1 $PPID; sleep 0.3; exit 143")
    ended = stage.run(SCRIPTS["slurm"], "run.dir=/data/runs/first", **SLURM)
    assert "scontrol requeue 123456" in stage.calls
    assert "queued anew" in ended.stdout
    assert ended.returncode != 0


FIELDS_OF_SKY = {"name", "num_nodes", "resources", "file_mounts", "envs", "secrets", "workdir", "setup", "run"}
"""The fields of a task that are used, by SkyPilot's reference of its YAML."""


def test_the_task_of_skypilot_has_its_fields_and_says_what_must_be_given() -> None:
    assert set(SKY) == FIELDS_OF_SKY
    assert set(SKY["resources"]) <= {"cpus", "memory", "accelerators", "disk_size", "use_spot", "job_recovery"}
    assert {name for name, value in SKY["envs"].items() if value is None} == {"POOL", "TARGET"}
    assert SKY["secrets"] == {"RAY_AUTH_TOKEN": None}
    assert "ray stop" not in SKY["run"].split("no `ray stop`")[1]


def _on_sky(stage: Stage, rank: int) -> Ran:
    stage.command("ray")
    stage.command("ray-itl")
    stage.command("python", "echo 2")
    variables = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NUM_NODES": "2"}
    given = {"POOL": "s3://me/pool", "TARGET": "s3://me/t.parquet", "NUM_PICKS": "9", "RUN": "first"}
    return stage.run(SKY["run"], **variables, **given)


def test_on_skypilot_the_first_node_runs_the_command_and_the_others_join(stage: Stage) -> None:
    assert _on_sky(stage, 1).returncode == 0
    assert stage.calls[-2:] == [
        "ray health-check --address 10.0.0.1:6379",
        "ray start --address 10.0.0.1:6379 --disable-usage-stats",
    ]
    ran = _on_sky(stage, 0)
    assert ran.returncode == 0, ran.stderr
    assert "ray start --head --port 6379 --disable-usage-stats" in stage.calls
    words = stage.calls[-1].split()
    assert words[:3] == ["ray-itl", "curate", "cluster.address=10.0.0.1:6379"]
    assert composed(words[2:]).run.dir == "/results/first"


def test_cron_tries_again_only_while_another_is_at_work(stage: Stage) -> None:
    script = f"{JOBS}/nightly/cron.sh"
    for codes, expected, tries in ((["75", "0"], 0, 2), (["2"], 2, 1), (["75", "75", "75"], 75, 3)):
        stage.calls_file.write_text("")
        answers = " ".join(codes)
        stage.command("ray-itl", f'codes=({answers}); exit "${{codes[$(wc -l < {stage.calls_file}) - 1]}}"')
        variables = {"DAY": "2026-01-31", "TRIES": "3", "PAUSE_S": "0", "LOG": str(stage.folder / "log")}
        # without the checkout's own environment, whose ray-itl would stand before
        text = Path(script).read_text().replace('cd "$(dirname "$0")/../.." || exit 1\n', "")
        ran = stage.run(text, "state.dir=/data/state", **variables)
        assert (ran.returncode, len(stage.calls)) == (expected, tries)
    assert stage.calls[0] == ("ray-itl curate state.tick=2026-01-31 state.wait_s=0 run.log=lines state.dir=/data/state")
    assert os.access(script, os.X_OK)
    composed([*stage.calls[0].split()[2:], "pool.path=p", "target.path=t"])


class _Context:
    """What the `with DAG(...)` of Airflow, and everything of Dagster that only takes arguments, stand in for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def __enter__(self) -> _Context:
        return self

    def __exit__(self, *_: object) -> None:
        return


def _module(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    return module


def _loaded(path: Path, monkeypatch: pytest.MonkeyPatch, *stubs: ModuleType) -> Any:
    for stub in stubs:
        monkeypatch.setitem(sys.modules, stub.__name__, stub)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def airflow_command(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return what makes the bash command of a day; checks the DAG on the way."""
    operators: list[_Context] = []

    def operator(**kwargs: Any) -> None:
        operators.append(_Context(**kwargs))

    names = ["airflow", "airflow.providers", "airflow.providers.standard", "airflow.providers.standard.operators"]
    stubs = [_module(name) for name in names]
    bash = _module("airflow.providers.standard.operators.bash", BashOperator=operator)
    stubs += [bash, _module("airflow.sdk", DAG=_Context)]
    told = _loaded(JOBS / "nightly" / "airflow_dag.py", monkeypatch, *stubs).dag.kwargs
    assert (told["max_active_runs"], told["catchup"], told["default_args"]["retries"]) == (1, False, 3)
    (made,) = operators
    assert made.kwargs["append_env"] is True
    return lambda day: jinja2.Template(made.kwargs["bash_command"]).render(ds=day)


def dagster_asset(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module, its asset being the bare function."""

    class Retry(Exception):  # noqa: N818 - as Dagster's
        def __init__(self, **kwargs: Any) -> None:
            self.kwargs = kwargs

    class Failed(Exception):  # noqa: N818
        def __init__(self, text: str, allow_retries: bool) -> None:
            assert not allow_retries
            super().__init__(text)

    stub = _module(
        "dagster",
        DailyPartitionsDefinition=_Context,
        AssetExecutionContext=SimpleNamespace,
        Definitions=_Context,
        RetryRequested=Retry,
        Failure=Failed,
        asset=lambda **_: lambda function: function,
        define_asset_job=_Context,
        build_schedule_from_partitioned_job=_Context,
    )
    return _loaded(JOBS / "nightly" / "dagster_asset.py", monkeypatch, stub)


def test_dagster_tries_again_what_may_come_later_and_nothing_else(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = dagster_asset(monkeypatch)
    monkeypatch.setenv("PATH", f"{stage.bin}{os.pathsep}{os.environ['PATH']}")
    context = SimpleNamespace(partition_key="2026-01-31")
    stage.command("ray-itl", "exit 0")
    module.picks(context)
    assert "state.tick=2026-01-31" in stage.calls[0]
    composed(stage.calls[0].split()[2:])
    stage.command("ray-itl", "exit 75")
    with pytest.raises(module.dg.RetryRequested) as caught:
        module.picks(context)
    assert caught.value.kwargs == {"max_retries": 3, "seconds_to_wait": 1800}
    stage.command("ray-itl", "exit 2")
    with pytest.raises(module.dg.Failure, match="exit code 2"):
        module.picks(context)
    assert module.nightly.kwargs == {"hour_of_day": 3}


@pytest.mark.cluster
def test_nights_of_all_schedulers_are_one_history(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night by cron, one by Airflow, one by Dagster: each a real tick, and done once."""
    growing = Growing(stage.folder / "growing")
    stage.command("ray-itl", f'exec {sys.executable} -m ray_itl "$@" cluster.num_shards=0 run.report=false')
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    place = {
        "/data/pool": str(growing.pool),
        "/data/target.parquet": str(growing.target),
        "/data/state": growing.location,
    }

    def placed(text: str) -> str:
        for old, new in place.items():
            text = text.replace(old, new)
        return text.replace("selection.n=1000", "selection.n=5")

    growing.grow(0)
    options = placed("pool.path=/data/pool target.path=/data/target.parquet selection.n=1000 state.dir=/data/state")
    text = SCRIPTS["cron"].replace('cd "$(dirname "$0")/../.." || exit 1\n', "")
    for _ in range(2):
        ran = stage.run(text, *options.split(), DAY="2026-02-01", LOG=str(stage.folder / "log"), PAUSE_S="1")
        assert ran.returncode == 0, (stage.folder / "log").read_text()
    growing.grow(1)
    ran = stage.run(placed(airflow_command(monkeypatch)("2026-02-02")))
    assert ran.returncode == 0, ran.stderr
    growing.grow(2)
    module = dagster_asset(monkeypatch)
    module.OPTIONS = [placed(word) for word in module.OPTIONS]
    monkeypatch.setenv("PATH", f"{stage.bin}{os.pathsep}{os.environ['PATH']}")
    real = subprocess.run
    monkeypatch.setattr(module.subprocess, "run", lambda words, **kw: real([placed(word) for word in words], **kw))
    module.picks(SimpleNamespace(partition_key="2026-02-03"))
    records = growing.records()
    assert [(record.tick, record.new_files) for record in records] == [
        ("2026-02-01", 1), ("2026-02-02", 1), ("2026-02-03", 1),
    ]  # fmt: skip
    assert all(record.picks == 5 for record in records)
