"""Options that cannot be: the jobs end with exit code 2 and one line, whether Hydra or the settings notice."""

import re
import runpy
import sys
from pathlib import Path
from string import Template

import pytest

from ray_itl.cli.main import COMMANDS
from tests.jobs.helpers import ROOT, compose_job, load_job

KEY = "wJalrXUtnFEMI"

CASES = [
    ("curate", ["pool.nosuch=1"], "nosuch"),
    ("curate", ["pool.path=["], r"pool\.path=\["),
    ("curate", ["acquisition=nosuch"], "nosuch"),
    ("curate", ["acquisition=1"], "Got int"),
    ("curate", ["+="], "cannot make sense of the options"),
    ("curate", ["--info", "all", "--cfg", "job"], "Only one of"),
    ("curate", ["selection.n=many"], r"selection\.n"),
    ("curate", ["selection.n"], r"selection\.n"),
    ("curate", ["pool={a: 1}"], "pool"),
    ("curate", ["--config-name", "nosuch"], "nosuch"),
    ("curate", ["--config-dir", "/nowhere"], "/nowhere"),
    ("curate", ["pool.id_column=${oc.env:AWS_SECRET_ACCESS_KEY}"], "environment variable AWS_SECRET_ACCESS_KEY"),
    ("curate", ['pool.columns=[a,"${oc.env:${pool.id_column},x}"]'], "environment variable id"),
    ("curate", ["hydra.run.dir=${oc.env:AWS_SECRET_ACCESS_KEY}"], "environment variable AWS_SECRET_ACCESS_KEY"),
    ("curate", [f"pool.path=s3://AKIA:{KEY}@bucket/pool", "target.path=t"], r"pool\.path holds credentials"),
    ("curate", ["pool.path=p", f"target.path=[a,'s3://AKIA:{KEY}@bucket/pool']"], r"target\.path holds credentials"),
    ("curate", [f"pool.nosuch=s3://AKIA:{KEY}@bucket"], "nosuch"),
    ("curate", [f"pool.path=[s3://AKIA:{KEY}@bucket"], "pool.path"),
    ("curate", [f"pool.prior_covariance='s3://b/p.npy?secret_key={KEY}'"], r"pool\.prior_covariance holds credentials"),
    ("curate", ["run.dir=s3://bucket/run"], r"run\.dir cannot be a URI"),
    ("curate", ['pool.id_column="a\\nerror: b"', "pool.path=/nowhere/\u001b[2J"], r"/nowhere/.*\\x1b\[2J"),
    ("embed", [f"pool.path=s3://AKIA:{KEY}@bucket/pool"], r"pool\.path holds credentials"),
    ("finetune", [f"data.pool=s3://AKIA:{KEY}@bucket/pool"], r"data\.pool holds credentials"),
    ("finetune", ["+sweep.variants={../../x: {}}"], r"sweep\.variants.*\.\./\.\./x"),
    ("verify", ["run.dir=1", "sample=x"], "sample"),
    ("curate", ["run.dirx=a"], r"there is no option run\.dirx: did you mean run\.dir\?"),
    ("curate", ["+run.dirx=a"], r"there is no option run\.dirx: did you mean run\.dir\?"),
    (
        "finetune",
        ["embedding.kind=column", "embedding.column=e", "embedding.unit_norm=true"],
        "embedding.unit_norm=True cannot be used: embeddings of a column are taken as they are",
    ),
    ("finetune", ["rounds.cont=3"], r"did you mean rounds\.count\?"),
    ("finetune", ["experiment=mnits"], "experiment=mnits cannot be used: use one of cifar10, .*wordnet_noise$"),
    ("curate", ["selection.n=2.5"], r"selection\.n=2\.5 cannot be used: give a whole number of at least 1, or a"),
    ("curate", ["selection.n=0%"], r"selection\.n='0%' cannot be used: give a whole number of at least 1, or a"),
    ("curate", ["selection.n=120%"], r"selection\.n='120%' cannot be used: .* a percentage up to 100% like 5%$"),
    ("curate", ["selection.n=5 %"], r"selection\.n='5 %' cannot be used"),
    ("curate", ["selection.n=x%"], r"selection\.n='x%' cannot be used"),
    ("curate", ["pool.columns=a"], r"pool\.columns=a cannot be used: give a list"),
    ("curate", ["pool.path=a=b.parquet"], "quotes within quotes"),
]


@pytest.mark.parametrize(("job", "options", "message"), CASES, ids=[" ".join(options)[:60] for _, options, _ in CASES])
def test_bad_options(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    job: str,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "jobs" / f"{job}.py"), *options])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(sys.argv[0], run_name="__main__")
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.err.rstrip("\n").isprintable()
    assert re.search(message, shown.err), shown.err
    assert KEY not in shown.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", COMMANDS)
def test_help_is_a_template_that_can_be_filled_in(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra fills it in by string.Template, which takes a $ for a name of its own."""
    load_job(job)
    template = compose_job(job, with_hydra=True).hydra.help.template
    assert f"Usage: ray-itl {job} " in Template(template).substitute()
    monkeypatch.setattr(sys, "argv", [str(ROOT / "jobs" / f"{job}.py")])
    monkeypatch.chdir(ROOT)
    template = compose_job(job, with_hydra=True).hydra.help.template
    assert f"python jobs/{job}.py " in Template(template).substitute()


def test_every_command_is_a_script_too() -> None:
    assert set(COMMANDS) == {path.stem for path in (ROOT / "jobs").glob("*.py")}


def test_a_bug_leaves_its_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def curate(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("ray_itl.cli.curate.curate", curate)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "jobs" / "curate.py"), "pool.path=p", "target.path=t"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(sys.argv[0], run_name="__main__")
    assert caught.value.code == 1
    (report,) = tmp_path.glob("ray_itl-bug-*.log")
    assert capsys.readouterr().err.startswith("error: this is a bug of ray_itl (ValueError: a bug): please report it")
    assert report.read_text().endswith("ValueError: a bug\n")
