"""Data sets on the hub, by a client that keeps its repositories in a folder: opened, pinned to a commit, refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError, MissingExtraError, StorageError
from ray_itl.io import hub_paths
from ray_itl.sources.open import open_raw_rows
from ray_itl.sources.parquet import ParquetRows

FOLDER: Any = pytest.importorskip("fsspec.implementations.dirfs").DirFileSystem
COMMITS = {"main": "a" * 40, "v1": "b" * 40}


class FakeHub:
    """As much of huggingface_hub as is used; a repository's folder holds one folder for each commit."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, []
        self.error: Exception | None = None

    def HfFileSystem(self) -> Any:  # noqa: N802 - its name there
        files = _Files(str(self.root))
        files.resolve = self.resolve_path
        return files

    def HfApi(self) -> Any:  # noqa: N802
        return SimpleNamespace(repo_info=self.repo_info)

    def resolve_path(self, path: str) -> Any:
        if self.error is not None:
            raise self.error
        kind, owner, name, *rest = path.split("/")
        name, _, revision = name.partition("@")
        if not (self.root / kind / owner).exists():
            raise FileNotFoundError(path)
        return SimpleNamespace(repo_id=f"{owner}/{name}", revision=revision or "main", path_in_repo="/".join(rest))

    def repo_info(self, repo_id: str, *, repo_type: str, revision: str) -> Any:
        self.asked.append((repo_id, repo_type, revision))
        return SimpleNamespace(sha=COMMITS[revision])


class _Files(FOLDER):
    resolve: Any

    def resolve_path(self, path: str) -> Any:
        return self.resolve(path)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    for k, commit in enumerate(COMMITS.values()):
        folder = tmp_path / "datasets" / "we" / f"rows@{commit}" / "data"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": [k, 7], "text": [f"{commit[0]} {i}" for i in range(2)]}), folder / "a.parquet")
    found = FakeHub(tmp_path)
    monkeypatch.setattr(hub_paths, "_client", lambda: found)
    return found


def opened(uri: str) -> ParquetRows:
    rows = open_raw_rows(uri, id_column="id", columns=["text"])
    assert isinstance(rows, ParquetRows)
    return rows


@pytest.mark.parametrize("end", ["", "/data", "/data/a.parquet", "/data/*.parquet", "/**/*.parquet"])
@pytest.mark.parametrize(("revision", "commit"), [("", "a"), ("@main", "a"), ("@v1", "b"), ("@" + "b" * 40, "b")])
def test_a_revision_is_pinned_to_its_commit(fake: FakeHub, revision: str, commit: str, end: str) -> None:
    rows = opened(f"hf://datasets/we/rows{revision}{end}")
    assert rows.take(np.array([1]), ["text"]).column(0).to_pylist() == [f"{commit} 1"]
    assert f"we/rows@{commit * 40}" in rows.manifest.root
    assert len(fake.asked) == (len(revision) < 10)


def test_a_branch_that_moves_meanwhile_changes_nothing(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    del fake
    rows = opened("hf://datasets/we/rows")
    monkeypatch.setitem(COMMITS, "main", COMMITS["v1"])
    again = ParquetRows(rows.manifest)  # as another process opens it
    assert again.take(np.array([0]), ["text"]).column(0).to_pylist() == ["a 0"]
    assert opened("hf://datasets/we/rows").manifest.fingerprint != rows.manifest.fingerprint


def test_what_is_no_data_set_or_not_there_is_refused(fake: FakeHub) -> None:
    for uri in ("hf://we/model", "hf://datasets/alone", "hf://spaces/we/app"):
        with pytest.raises(InputError, match=r"no data set on the hub: name one as hf://datasets/ORGANISATION/NAME"):
            opened(uri)
    with pytest.raises(InputError, match=r"'hf://datasets/you/rows' cannot be opened .*HF_TOKEN"):
        opened("hf://datasets/you/rows")
    with pytest.raises(InputError, match="holds credentials"):
        opened("hf://user:secret@datasets/we/rows")
    fake.error = ConnectionError("no route")
    with pytest.raises(StorageError, match=r"cannot be reached at the moment .*no route"):
        opened("hf://datasets/we/rows")
    refused: Any = RuntimeError("it is gated")
    refused.response = SimpleNamespace(status_code=403)
    fake.error = refused
    with pytest.raises(InputError, match="it is gated"):
        opened("hf://datasets/we/rows")


def test_the_client_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'needs huggingface_hub.*pip install "ray_itl\[hub\]"'):
        opened("hf://datasets/we/rows")
