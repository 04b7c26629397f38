"""Models of sentence-transformers give what their own encode() gives, in any window, on any number of cores."""

import json
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.embedding.job import embed_pool
from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.settings import (
    EmbeddingModelSettings,
    EmbeddingSettings,
    EmbedJobSettings,
    EmbedRunSettings,
    OutputSettings,
    RawPoolSettings,
    WorkerSettings,
)
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from tests.training.tiny_models import clip_folder, pictures, sentence_folder, text_folder

WORDS = ["abc", "defg", "hi", "jklmnop", "q", "rstuv", "wxyz"]
TEXTS = [" ".join(np.random.default_rng(row).choice(WORDS, 1 + row % 23).tolist()) for row in range(90)]
COLUMN = pa.array(TEXTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("sentence_transformers")
    return sentence_folder(tmp_path_factory.mktemp("sentences"))


def opened(name: str, options: dict[str, Any] | None = None, sample: pa.Array | None = COLUMN, **how: Any) -> Any:
    how = {"precision": "float32", **how}
    return open_encoder(EmbeddingModelSettings(name, options), EmbeddingSettings(**how), sample=sample)


def theirs(folder: str, texts: list[Any] = TEXTS, **options: Any) -> np.ndarray:
    import sentence_transformers

    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    return model.encode(texts, batch_size=1, show_progress_bar=False, **options)


def test_embeddings_are_those_of_the_library(folder: str) -> None:
    encoder = opened(folder)
    assert (encoder.dim, encoder.notes, encoder.details()) == (16, (), {"precision": "float32"})
    np.testing.assert_allclose(encoder.embed_column(COLUMN), theirs(folder), atol=1e-5)
    np.testing.assert_allclose(opened(folder, batch_tokens=1).embed_column(COLUMN), theirs(folder), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"prompt": "passage"}, {"prompt_name": "passage"}),
        ({"prompt": "hij: "}, {"prompt": "hij: "}),
        ({"truncate_dim": 5}, {"truncate_dim": 5}),
    ],
)
def test_options_are_those_of_the_library(folder: str, options: dict[str, Any], same: dict[str, Any]) -> None:
    encoder = opened(folder, options)
    np.testing.assert_allclose(encoder.embed_column(COLUMN), theirs(folder, **same), atol=1e-5)
    assert encoder.dim == encoder.embed_column(COLUMN).shape[1]


def test_texts_are_cut_where_it_is_said(folder: str) -> None:
    short, long = (opened(folder, {"max_tokens": most}) for most in (8, 30))
    some = pa.array(["abc", "q " * 20])
    assert np.allclose(short.embed_column(some)[0], long.embed_column(some)[0], atol=1e-5)
    assert not np.allclose(short.embed_column(some)[1], long.embed_column(some)[1], atol=1e-3)
    np.testing.assert_allclose(short.embed_column(some)[1], theirs(folder, ["q " * 6])[0], atol=1e-5)


def test_a_models_own_way_is_taken_where_it_is_not_plain(folder: str) -> None:
    encoder = opened(folder, {"prompt": "hij: "})
    plain = encoder.embed_column(COLUMN)
    assert encoder._is_plain
    encoder._is_plain = False
    np.testing.assert_allclose(encoder.embed_column(COLUMN), plain, atol=1e-5)


def test_windows_alone_decide_the_last_bit(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = opened(folder, precision="bfloat16")
    encoder.window = 32
    whole = encoder.embed_column(COLUMN)
    assert np.array_equal(encoder.embed_column(COLUMN.slice(32)), whole[32:])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(encoder.embed_column(COLUMN), whole)


def test_bfloat16_is_near_and_said(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, half = opened(folder), opened(folder, precision="bfloat16")
    assert half.details()["precision"] == "bfloat16"
    assert 0 < half.details()["largest_cosine_distance"] < 1e-3
    assert half.details()["rows_compared"] == 64
    assert half.notes[0].startswith("computing in bfloat16, whose embeddings differ from float32's by at most ")
    a, b = exact.embed_column(COLUMN), pickle.loads(pickle.dumps(half)).embed_column(COLUMN)
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, atol=0.05)
    assert np.array_equal(half.embed_column(COLUMN), b)
    assert exact.identity() != half.identity()
    for has, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("ray_itl.embedding.torch_encoder.has_bfloat16", lambda _, has=has: has)
        assert opened(folder, precision="auto").precision == expected


def test_a_large_difference_is_fallen_back_from_or_told(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_itl.embedding.torch_encoder.has_bfloat16", lambda _: True)
    monkeypatch.setattr("ray_itl.embedding.precision.LARGEST", 1e-12)
    auto, asked = opened(folder, precision="auto"), opened(folder, precision="bfloat16")
    assert (auto.precision, asked.precision) == ("float32", "bfloat16")
    assert auto.notes[0].startswith("computing in float32, as embeddings in bfloat16 differ")
    assert asked.notes[0].endswith("which is much; embedding.precision=float32 is exact")
    assert np.array_equal(auto.embed_column(COLUMN), opened(folder).embed_column(COLUMN))


def test_it_travels_without_weights_and_refuses_others(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    encoder = opened(sentence_folder(copy))
    packed = pickle.dumps(encoder)
    assert len(packed) < 3000
    assert np.array_equal(pickle.loads(packed).embed_column(COLUMN), encoder.embed_column(COLUMN))
    sentence_folder(copy, seed=1)
    with pytest.raises(InputError, match="has other weights here"):
        pickle.loads(packed).embed_column(COLUMN)


def test_identity_sees_what_decides_and_not_where_the_model_is(folder: str, tmp_path: Path) -> None:
    first = opened(folder).identity()
    (tmp_path / "copy").mkdir()
    assert opened(sentence_folder(tmp_path / "copy")).identity() == first
    others = [
        opened(folder, {"prompt": "passage"}),
        opened(folder, {"truncate_dim": 4}),
        opened(folder, {"max_tokens": 9}),
        opened(folder, unit_norm=True),
        opened(folder, batch_tokens=7),
        opened(sentence_folder(tmp_path / "copy", pooling="cls")),
    ]
    assert all(other.identity() != first for other in others)


def test_texts_of_a_transformers_folder_are_averaged_and_that_is_said(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    plain = opened(text_folder(tmp_path), unit_norm=True)
    assert "has no modules.json: its token features are averaged" in plain.notes[0]
    learner = open_encoder(EmbeddingModelSettings("sentence_encoder", {"model": str(tmp_path), "max_tokens": 64}))
    np.testing.assert_allclose(plain.embed_column(COLUMN), learner.embed_column(COLUMN), atol=1e-5)


def test_what_cannot_be_used_is_named(folder: str, tmp_path: Path) -> None:
    for options, named in (
        ({"prompt": "query"}, r"model\.options\.prompt='query' cannot be used: the model has no prompt"),
        ({"truncate_dim": 17}, r"model\.options\.truncate_dim=17 cannot be used: the model gives 16"),
        ({"truncate_dim": 0}, r"model\.options\.truncate_dim=0"),
        ({"max_tokens": 1}, r"model\.options\.max_tokens=1"),
        ({"classes": 3}, r"taken for a model of sentence-transformers, which has no 'classes'; use prompt, trunc"),
    ):
        with pytest.raises(ConfigError, match=named):
            opened(folder, options)
    with pytest.raises(ConfigError, match=r"embedding\.kind='gradient'.*has no classifier"):
        opened(folder, kind="gradient")
    with pytest.raises(ConfigError, match=r"model\.checkpoint='w'.*takes none"):
        open_encoder(EmbeddingModelSettings(folder, checkpoint="w"))
    with pytest.raises(InputError, match=r"model\.name='.*nosuch' cannot be had"):
        opened(str(tmp_path / "nosuch" / "nosuch"))
    encoder = opened(folder)
    with pytest.raises(InputError, match=r"column has type binary.*reads text: name another column, or a model"):
        encoder.embed_column(pa.array([b"x"]))
    with pytest.raises(InputError, match=r"^row 2 \(counting from 0\): the text is blank"):
        encoder.embed_column(pa.array(["a", "b", ""]))


def test_files_that_lack_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = sentence_folder(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in weights if "layer.1" in name)
    save_file(
        {name: tensor for name, tensor in weights.items() if name != lost},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(InputError, match=rf"cannot be had \(its files lack 1 weights of the model, as .*{lost[-12:]}"):
        opened(folder)


def test_loading_is_silent(folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    opened(folder)
    assert capfd.readouterr() == ("", "")


def test_a_sample_of_bad_rows_alone_is_done_without(folder: str) -> None:
    assert opened(folder, sample=pa.array([None, " "], pa.string())).dim == 16
    assert opened(folder, sample=None).dim == 16
    assert json.loads(opened(folder).identity()["model.options"]) == {"prompt": None, "truncate_dim": None}


@pytest.mark.parametrize(
    ("offline", "why"), [(True, "HF_HUB_OFFLINE is set"), (False, "the Hugging Face hub cannot be reached")]
)
def test_a_hub_that_cannot_be_reached_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], offline: bool, why: str
) -> None:
    pytest.importorskip("sentence_transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    began = time.monotonic()
    with pytest.raises(InputError, match=rf"nobody/nothing' cannot be had \(it is not on this machine, and {why}\)"):
        opened("nobody/nothing")
    assert time.monotonic() - began < 10
    assert capfd.readouterr() == ("", "")


def test_a_run_keeps_how_it_computed(folder: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": range(90), "text": TEXTS, "number": range(90)}), tmp_path / "pool.parquet")
    settings = EmbedJobSettings(
        pool=RawPoolSettings(str(tmp_path / "pool.parquet")),
        model=EmbeddingModelSettings(folder),
        embedding=EmbeddingSettings(precision="bfloat16"),
        output=OutputSettings(part_rows=64),
        cluster=WorkerSettings(num_workers=0),
        run=EmbedRunSettings(str(tmp_path / "run"), log="quiet"),
    )
    done = embed_pool(settings)
    rows = np.array(pq.read_table(done.path).column("embedding").to_pylist(), dtype=np.float32)
    assert np.array_equal(rows, opened(folder, precision="bfloat16").embed_column(COLUMN))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["precision"], manifest["identity"]["embedding.precision"]) == ("bfloat16", "bfloat16")
    assert manifest["versions"]["sentence-transformers"]
    with pytest.raises(RunDirectoryError, match=r"changed: embedding\.precision\)"):
        embed_pool(replace(settings, embedding=EmbeddingSettings(precision="float32")))
    numbers = replace(settings.pool, raw_column="number")
    with pytest.raises(InputError, match=r"^pool\.raw_column='number': the column has type int64, but "):
        embed_pool(replace(settings, pool=numbers, run=EmbedRunSettings(str(tmp_path / "other"), log="quiet")))


def test_clip_reads_images_and_texts(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path)
    encoder = opened(folder, sample=None)
    images = pictures()
    found = encoder.embed_column(images)
    assert found.shape == (len(images), encoder.dim)
    from ray_itl.training.inputs import decode_pictures

    np.testing.assert_allclose(found, theirs(folder, decode_pictures(images)), atol=1e-4)
    np.testing.assert_allclose(encoder.embed_column(COLUMN), theirs(folder), atol=1e-4)
