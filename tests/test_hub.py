"""Pushing picks with a data card, against a fake of Hugging Face: one commit, and nothing that others must not see."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ray_itl import MissingExtraError, Selection, select
from ray_itl.cli.arguments import readable_by_hydra
from ray_itl.cli.config import to_settings
from ray_itl.curation.run import curate
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import InputError, StorageError
from ray_itl.io.hub import check_contents
from tests.fake_hub import FakeHub
from tests.helpers import Files, clustered, table_of
from tests.jobs.helpers import compose_job, load_job

N = 12


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    files = Files(tmp_path)
    options: dict[str, Any] = {"target": {"weight_column": "weight"}, "acquisition": {"name": "vtl"}}
    return files.run(files.settings(n=N, pool={"filter": "weight > 1"}, **options))


def test_rows_and_card_come_in_one_commit(hub: FakeHub, selection: Selection) -> None:
    address = selection.push_to_hub("picks", license="cc-by-4.0", token="hf_secret")
    assert address == "https://hub/me/picks/12 rows picked by ray_itl"
    assert (hub.num_commits, hub.private, hub.tokens) == (1, {"me/picks": True}, {"hf_secret"})
    found = hub.files["me/picks"]
    assert hub.names("me/picks") == ["README.md", "data/train-00000-of-00001.parquet"]
    rows = pq.read_table(io.BytesIO(found["data/train-00000-of-00001.parquet"]))
    expected = selection.to_arrow()
    assert rows.equals(expected.drop_columns(["file", "row"]))
    assert rows.column("text").to_pylist() == [f"text {row}" for row in selection.ids]
    card = found["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]


def test_the_card_says_how_the_rows_were_picked(selection: Selection) -> None:
    card = selection.data_card(title="Picks | <b>")
    for words in (
        "# Picks &#124; &#60;b&#62;",
        "12 rows of a pool of 200, picked for 12 examples of a task",
        "| rule | `vtl`, variance-based",
        "| noise variance | 1 |",
        "| 12 |",
        "'pool.filter=weight > 1'",
        "target.weight_column=weight",
        "selection.n=12",
        "pool.path=...",
        "fingerprints (SHA-256): pool `",
        "Made with ray_itl ",
        "Not stated.",
        "| `text` | `string` |",
    ):
        assert words in card
    assert str(selection.run_dir) not in card
    folder = str(Path(str(selection.run_dir)).parent)
    assert folder not in card
    assert "license:" not in card
    assert f"pool.path={folder}/pool" in selection.data_card(show_paths=True)
    gain, left = selection.gains[:10].sum(), selection.remaining_uncertainty[10]
    assert f"| 10 | {gain:.4g} | {100 * left:.3g}% |" in card


def test_the_command_of_the_card_picks_the_same(selection: Selection) -> None:
    """The options in the card are all that are needed."""
    card = selection.data_card(show_paths=True)
    command = card.split("```bash\n")[1].split("\n```")[0].replace("\\\n", " ")
    words = shlex.split(command)
    assert words[:2] == ["ray-itl", "curate"]
    load_job("curate")
    options = [readable_by_hydra(word) for word in words[2:]]
    settings = to_settings(compose_job("curate", *options, "cluster.num_shards=0"), CurationSettings)
    assert curate(settings).ids == selection.ids


def test_what_is_there_is_replaced_only_on_demand(hub: FakeHub, selection: Selection) -> None:
    selection.push_to_hub("me/picks")
    hub.files["me/picks"]["data/train-00007-of-00009.parquet"] = b"old"
    hub.files["me/picks"]["notes.txt"] = b"mine"
    with pytest.raises(InputError, match="me/picks is there already"):
        selection.push_to_hub("me/picks")
    selection.push_to_hub("me/picks", columns=["text"], exist_ok=True, show_paths=True)
    assert hub.names("me/picks") == ["README.md", "data/train-00000-of-00001.parquet", "notes.txt"]
    rows = pq.read_table(io.BytesIO(hub.files["me/picks"]["data/train-00000-of-00001.parquet"]))
    assert {"file", "row", "text"} < {*rows.column_names}
    assert "weight" not in rows.column_names


def test_nothing_is_left_where_a_commit_fails(hub: FakeHub, selection: Selection) -> None:
    hub.failing = OSError("no route; Authorization: Bearer hf_secret")
    with pytest.raises(StorageError, match=r"could not be pushed, nothing was changed: no route.*Bearer \.\.\.$"):
        selection.push_to_hub("me/picks", token="hf_secret")
    assert hub.files == {}
    refused: Any = OSError("401 Client Error")
    refused.response = SimpleNamespace(status_code=401)
    hub.failing = refused
    with pytest.raises(InputError, match="Hugging Face refuses me/picks: 401"):
        selection.push_to_hub("me/picks")
    with pytest.raises(InputError, match="no name of a data set"):
        selection.push_to_hub("me/../picks")


PRIVATE = {
    "path": "/home/me/x.png",
    "home": "~/x y.png",
    "windows": "C:\\Users\\me\\x",
    "uri": "see s3://key:secret@bucket/x here",
    "signed": "https://store/x?X-Amz-Signature=abc",
    "variable": "my token is hf_0123456789",
}


@pytest.mark.parametrize("kind", PRIVATE)
@pytest.mark.parametrize("nested", [False, True])
def test_paths_and_credentials_are_not_handed_over(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, kind: str, nested: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    texts = ["harmless"] * 39 + [PRIVATE[kind]]
    column = pa.array([[{"a": text}] for text in texts]) if nested else pa.array(texts)
    pool = table_of(clustered(40, seed=1)).append_column("image", column)
    found = select(pool, clustered(9, seed=2), 40)
    what = "path of this machine" if kind in ("path", "home", "windows") else "what looks like credentials"
    with pytest.raises(InputError, match=f"column 'image' holds .*{what} in row ") as caught:
        found.push_to_hub("me/picks")
    assert PRIVATE[kind] not in str(caught.value)
    assert hub.files == {}
    found.push_to_hub("me/picks", columns=["text"])
    found.push_to_hub("me/others", unchecked=["image"])


def test_ordinary_texts_pass() -> None:
    texts = ["a/b", "/usr", "see https://example.com/a?page=2", "1/2", "and/or\n/home/me", "", None, "s3://bucket/x"]
    check_contents(pa.table({"text": texts, "number": range(8), "names": [["a"]] * 8}))


def test_a_selection_made_by_hand_has_no_card(selection: Selection) -> None:
    bare = Selection(selection.table, "nats", selection.remaining_uncertainty, selection.stats)
    with pytest.raises(InputError, match="holds no metrics"):
        bare.data_card()


def test_the_library_is_named_where_it_is_missing(selection: Selection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"push_to_hub needs huggingface_hub.* pip install \"ray_itl\[hub\]\""):
        selection.push_to_hub("me/picks")
