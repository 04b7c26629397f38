"""What a run writes and prints: no secret of its environment; and names from hostile data stay names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl import select
from ray_itl.cli.guard import guarded
from ray_itl.errors import InputError
from tests.helpers import Files, clustered, table_of
from tests.jobs.helpers import ROOT
from tests.jobs.object_store import object_store
from tests.report.pages import Page

pytestmark = pytest.mark.cluster  # each runs jobs in processes of their own
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIA5ZUOXMQ4",
    "AWS_SECRET_ACCESS_KEY": "wJalr/XUtnFEMI+K7MDENG",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEBY",
    "RAY_AUTH_TOKEN": "6a1f0c9be4",
    "HF_TOKEN": "hf_QmVzdFNlY3JldA",
}
SCRIPT = "<script>alert(1)</script>"
IDS = ["../../escaped", "/etc/passwd", "a\nerror: b", "\x1b[2J", SCRIPT, "..\\..\\x", "con", "", "ß" * 300]


def run(job: str, folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a job in a folder, with secrets in its environment and the variables given."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT), **SECRETS, **variables}
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def telling(told: dict[str, bytes]) -> list[str]:
    """Return the names of what holds a secret."""
    return [name for name, content in told.items() if any(secret.encode() in content for secret in SECRETS.values())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a pool whose ids, columns, values and file name are all out for harm."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = clustered(60, seed=1)
    table = table_of(rows).select(["id", "embedding"])
    ids = pa.array([f"{IDS[i % len(IDS)]}{i if i >= len(IDS) else ''}" for i in range(60)])
    table = table.set_column(0, "id", ids).append_column(SCRIPT, pa.array([f"{SCRIPT}{i}" for i in range(60)]))
    (folder / "pool").mkdir()
    pq.write_table(table, folder / "pool" / "<svg onload=alert(1)>.parquet")
    pq.write_table(table_of(clustered(9, seed=2)), folder / "target.parquet")
    return folder


@pytest.fixture(scope="module")
def ran(folder: Path) -> subprocess.CompletedProcess[str]:
    where = [f"pool.path={folder / 'pool'}", f"target.path={folder / 'target.parquet'}", f"run.dir={folder / 'run'}"]
    options = [f"pool.columns=['{SCRIPT}']", "selection.n=60", "cluster.num_shards=0", "target.id_column=text"]
    done = run("curate", folder, *where, *options)
    assert done.returncode == 0, done.stderr
    return done


def test_no_secret_of_the_environment_is_written_or_printed(folder: Path, ran: subprocess.CompletedProcess) -> None:
    told = written(folder) | {"output": ran.stdout.encode() + ran.stderr.encode()}
    assert {"run/config.yaml", "run/manifest.json", "run/report.html", "run/status.json"} <= set(told)
    assert telling(told) == []


def test_the_check_can_fail() -> None:
    assert telling({"a": b"", "b": f"x{SECRETS['HF_TOKEN']}y".encode()}) == ["b"]


def test_credentials_in_a_uri_are_neither_kept_nor_told(tmp_path: Path) -> None:
    uri = f"s3://{SECRETS['AWS_ACCESS_KEY_ID']}:{SECRETS['AWS_SECRET_ACCESS_KEY']}@bucket/pool"
    done = run("curate", tmp_path, f"pool.path={uri}", "target.path=t.parquet", f"run.dir={tmp_path / 'run'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "pool.path holds credentials" in done.stderr
    assert telling({"output": done.stderr.encode()}) == []
    assert written(tmp_path) == {}
    with pytest.raises(InputError, match=r"s3://\.\.\. holds credentials") as caught:
        select(uri, str(tmp_path), 1, run_dir=tmp_path / "run")
    assert telling({"error": str(caught.value).encode()}) == []
    assert written(tmp_path) == {}


def test_credentials_of_a_store_come_from_the_environment(tmp_path: Path) -> None:
    files = Files(tmp_path / "data")
    pq.write_table(files.table, tmp_path / "pool.parquet")
    objects = {"bucket/pool.parquet": (tmp_path / "pool.parquet").read_bytes()}
    options = ["pool.path=s3://bucket/pool.parquet", f"target.path={files.target}", f"run.dir={tmp_path / 'run'}"]
    options += ["selection.n=12", "cluster.num_shards=0"]
    with object_store(objects, SECRETS["AWS_ACCESS_KEY_ID"]) as address:
        variables = {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "eu-west-1"}
        refused = run("curate", tmp_path, *options, **variables, AWS_ACCESS_KEY_ID="another")
        done = run("curate", tmp_path, *options, **variables)
    assert refused.returncode == 2
    assert "ACCESS_DENIED" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert telling(written(tmp_path) | {"output": (done.stdout + done.stderr + refused.stderr).encode()}) == []
    picks = pq.read_table(tmp_path / "run" / "selection.parquet").column("id").to_pylist()
    assert picks == select(files.pool, files.target, 12).ids


def test_a_tick_that_fails_tells_no_secret(tmp_path: Path) -> None:
    """Neither in its state, nor in what it prints; also where the address of the store is no use and holds some."""
    files = Files(tmp_path / "data")
    address = f"http://{SECRETS['AWS_ACCESS_KEY_ID']}:{SECRETS['HF_TOKEN']}@127.0.0.1:9"
    options = ["pool.path=s3://bucket/pool", f"target.path={files.target}", f"state.dir={tmp_path / 'state'}"]
    done = run("curate", tmp_path, *options, "cluster.num_shards=0", AWS_ENDPOINT_URL=address, AWS_MAX_ATTEMPTS="1")
    assert (done.returncode, done.stdout) == (1, "")  # storage that does not answer may do so later
    told = written(tmp_path / "state")
    assert b'"state": "failed"' in told["status.json"]
    assert telling(told | {"output": done.stderr.encode()}) == []


def test_a_bug_s_traceback_tells_no_credentials_of_a_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    @guarded
    def job() -> None:
        raise ZeroDivisionError("s3://AKIA1:abcDEF@bucket/pool")

    with pytest.raises(SystemExit) as caught:
        job()
    assert caught.value.code == 1
    (report,) = tmp_path.glob("ray_itl-bug-*.log")
    shown = capsys.readouterr().err + report.read_text()
    assert shown.count("ZeroDivisionError: s3://...") == 2
    assert "abcDEF" not in shown


def test_ids_and_names_lead_to_no_file(folder: Path, ran: subprocess.CompletedProcess) -> None:
    assert ran.returncode == 0
    assert {path.name for path in folder.iterdir()} == {"pool", "target.parquet", "run"}
    files = [path.relative_to(folder / "run") for path in (folder / "run").rglob("*") if path.is_file()]
    assert all(path.parts[0] == "ledger" or len(path.parts) == 1 for path in files)
    assert not [path for path in files if "alert" in path.name or "escaped" in path.name]
    picks = pq.read_table(folder / "run" / "selection.parquet").column("id").to_pylist()
    assert set(IDS) <= set(picks)


def test_the_report_holds_hostile_names_as_text(folder: Path, ran: subprocess.CompletedProcess) -> None:
    assert ran.returncode == 0
    page = Page((folder / "run" / "report.html").read_text())
    assert len(page.running) == 2
    assert not [text for text in page.running if "alert(1)" in text]
    assert page.loading == []
    assert not [tag for tag, attributes in page.elements if tag == "svg" or "onload" in attributes]
    assert SCRIPT in page.cells("Id")
    assert sorted(page.cells(SCRIPT)) == sorted(f"{SCRIPT}{i}" for i in range(60))


def test_progress_and_summary_hold_no_control_characters(ran: subprocess.CompletedProcess) -> None:
    for line in (ran.stdout + ran.stderr).splitlines():
        assert line.isprintable()


def test_embedded_parts_are_numbered(tmp_path: Path) -> None:
    rows = np.ones((9, 64), np.float32)
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 64)
    pq.write_table(pa.table({"id": IDS, "pixels": pixels}), tmp_path / "pool.parquet")
    options = ["model.name=mlp", "model.options={input_dim: 64, classes: 10}", "cluster.num_workers=0"]
    where = [f"pool.path={tmp_path / 'pool.parquet'}", "pool.raw_column=pixels", f"run.dir={tmp_path / 'run'}"]
    done = run("embed", tmp_path, *where, *options)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "run" / "embeddings").iterdir()] == ["part-00000000.parquet"]
    assert {path.name for path in tmp_path.iterdir()} == {"pool.parquet", "run"}
