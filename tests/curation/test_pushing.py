"""Picks pushed by the command: checked before the work begins, pushed once, and nothing is lost where that fails."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_itl.curation.pushing import PUSH_FILE
from ray_itl.curation.result_settings import HubSettings, RunSettings
from ray_itl.curation.settings import CurationSettings
from ray_itl.curation.summary import summarise
from ray_itl.errors import ConfigError, InputError, MissingExtraError, StorageError
from ray_itl.queries.checks import check_options
from tests.fake_hub import FakeHub
from tests.helpers import Files
from tests.jobs.helpers import call_job

PICKS = ["README.md", "data/train-00000-of-00001.parquet"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def pushing(files: Files, **hub: Any) -> CurationSettings:
    settings = files.settings()
    return replace(settings, run=replace(settings.run, push_to_hub="me/picks"), hub=replace(settings.hub, **hub))


def test_a_run_pushes_once(hub: FakeHub, files: Files) -> None:
    settings = pushing(files, license="cc-by-4.0", private=False)
    selection = files.run(settings)
    assert hub.names("me/picks") == PICKS
    assert hub.private == {"me/picks": False}
    assert 'license: "cc-by-4.0"' in hub.files["me/picks"]["README.md"].decode()
    note = json.loads((files.folder / "run" / PUSH_FILE).read_text())
    assert note == {"repository": "me/picks", "address": "https://hub/me/picks/12 rows picked by ray_itl"}
    assert f"pushed:  {note['address']}" in summarise(selection).details
    files.run(settings)
    assert hub.num_commits == 1
    files.run(replace(settings, run=replace(settings.run, push_to_hub="me/others")))
    assert (hub.num_commits, hub.names("me/others")) == (2, PICKS)


def test_a_push_that_fails_loses_nothing(hub: FakeHub, files: Files) -> None:
    hub.failing = OSError("no route")
    settings = pushing(files)
    with pytest.raises(StorageError, match=r"the run is finished.*/run, but not pushed: .*no route\. The same command"):
        files.run(settings)
    run = files.folder / "run"
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    hub.failing = None
    files.run(settings)
    assert hub.names("me/picks") == PICKS
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir() if path.name != PUSH_FILE} == {
        name: when for name, when in before.items() if name != PUSH_FILE
    }


def test_a_push_that_was_killed_is_known_as_ours(hub: FakeHub, files: Files) -> None:
    settings = pushing(files)
    files.run(replace(settings, run=replace(settings.run, push_to_hub=None)))
    (files.folder / "run" / PUSH_FILE).write_text('{"repository": "me/picks", "address": null}')
    hub.files["me/picks"] = {"README.md": b"", "data/train-00000-of-00001.parquet": b""}
    files.run(settings)
    assert hub.num_commits == 1


def test_all_is_checked_before_the_work_begins(hub: FakeHub, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, run = pushing(files), files.folder / "run"
    hub.files["me/picks"] = {".gitattributes": b"", "data/mine.parquet": b""}
    with pytest.raises(InputError, match=r"me/picks is there already: .*hub\.replace=true"):
        files.run(settings)
    hub.role = "read"
    with pytest.raises(ConfigError, match="can only read: set HF_TOKEN to one"):
        files.run(settings)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="without a token: run `hf auth login`"):
        files.run(settings)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"ray_itl\[hub\]"):
        files.run(settings)
    assert not run.exists()


def test_what_is_there_is_replaced_on_demand(hub: FakeHub, files: Files) -> None:
    hub.files["me/picks"] = {"data/mine.parquet": b""}
    files.run(pushing(files, replace=True))
    assert hub.names("me/picks") == PICKS


def test_options_that_cannot_be_are_named(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"run\.push_to_hub='me/\.\./picks' cannot be used: name a data set"):
        RunSettings(push_to_hub="me/../picks")
    with pytest.raises(ConfigError, match=r"run\.push_to_hub is not set, but options of hub are"):
        files.settings(hub={"private": False})
    with pytest.raises(ConfigError, match=r"hub\.columns=\['a', 'a'\]"):
        HubSettings(columns=["a", "a"])
    settings = pushing(files)
    for_queries = replace(settings, target=replace(settings.target, query_column="text"))
    with pytest.raises(ConfigError, match=r"run\.push_to_hub=me/picks does not go with target\.query_column"):
        check_options(for_queries)


def test_a_failed_push_is_an_exit_code(hub: FakeHub, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    hub.failing = OSError("no route")
    where = (f"pool.path={files.pool}", f"target.path={files.target}", f"run.dir={files.folder / 'run'}")
    options = (*where, "selection.n=5", "cluster.num_shards=0", "run.report=false", "run.push_to_hub=me/picks")
    ended = call_job("curate", *options, capsys=capsys)
    assert ended.returncode == 1
    assert "but not pushed" in ended.stderr
    hub.failing = None
    ended = call_job("curate", *options, capsys=capsys)
    assert ended.returncode == 0
    assert "pushed:  https://hub/me/picks/" in ended.stdout
