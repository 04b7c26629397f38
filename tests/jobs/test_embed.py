"""jobs/embed.py on real images, without Ray: what it writes, how it resumes, what it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.cli.config import register_schemas, to_settings
from ray_itl.embedding.job import EmbedResult, embed_pool, with_absolute_paths
from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.embedding.settings import EmbedJobSettings
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.options.text import to_yaml
from ray_itl.sources.open import open_source
from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.models.classifiers import Mlp
from ray_itl.training.registry import ModelSpec
from tests.cli.test_config import GOLDEN, option_names
from tests.jobs.helpers import ROOT, compose_job, load_job
from tests.sources.helpers import read_range

register_schemas(embed_schema=EmbedJobSettings)
OPTIONS = {"input_dim": 64, "classes": 10, "hidden": [32]}
PART = 384
PAUSE = "TEST_SECONDS_A_BATCH"


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    return (images / 16).astype(np.float32), labels


def write_digits(path: Path, rows: slice = slice(None), first_id: int = 0) -> None:
    images, labels = (part[rows] for part in digits())
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), 64)
    ids = [f"image-{first_id + row}" for row in range(len(labels))]
    pq.write_table(pa.table({"name": ids, "pixels": pixels, "digit": labels}), path, row_group_size=300)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Return a folder of two files that hold 1,797 digits."""
    folder = tmp_path / "raw"
    folder.mkdir()
    write_digits(folder / "a.parquet", slice(0, 1000))
    write_digits(folder / "b.parquet", slice(1000, None), first_id=1000)
    return folder


def settings_for(pool: Path, run: Path, *overrides: str) -> EmbedJobSettings:
    options = [
        *(f"pool.path={pool}", "pool.id_column=name", "pool.raw_column=pixels", "pool.columns=[digit]"),
        *("model.name=mlp", "model.options={input_dim: 64, classes: 10, hidden: [32]}", "run.log=quiet"),
        *(f"output.part_rows={PART}", "cluster.num_workers=0", f"run.dir={run}"),
    ]
    return with_absolute_paths(to_settings(compose_job("embed", *options, *overrides), EmbedJobSettings))


def embed(pool: Path, run: Path, *overrides: str) -> EmbedResult:
    settings = settings_for(pool, run, *overrides)
    return embed_pool(settings)


def contents(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "embeddings").iterdir()}


def test_the_options_are_the_documented_and_committed_ones() -> None:
    """To accept a change, write `to_yaml(EmbedSettings())` to the golden file."""
    settings = to_settings(compose_job("embed"), EmbedJobSettings)
    assert settings == EmbedJobSettings()
    assert to_yaml(settings) == (GOLDEN / "embed.yaml").read_text()
    text = compose_job("embed", with_hydra=True).hydra.help.template
    names = option_names(EmbedJobSettings)
    assert len(names) > 20
    assert [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", text)] == []


def test_the_result_is_a_pool_with_the_models_features(pool: Path, tmp_path: Path) -> None:
    done = embed(pool, tmp_path / "run", "model.seed=3")
    assert (done.num_rows, done.dim, done.rows_found) == (1797, 32, 0)
    assert "embedded 1,797 of 1,797 rows as 32 x float32" in done.summary().text
    assert sorted(contents(tmp_path / "run")) == [f"part-0000000{k}.parquet" for k in range(6)]
    for path in (done.path, done.path.parent):  # the run directory itself can be named, too
        source = open_source(path, id_column="id", columns=["digit"])
        ids, rows = read_range(source, 0, 1797)
        assert ids == [f"image-{row}" for row in range(1797)]
        assert source.take(np.arange(1797), ["digit"]).column(0).to_pylist() == digits()[1].tolist()
    learner = ModelSpec("mlp", OPTIONS).build(3)
    inputs = learner.encode(pq.read_table(pool).column("pixels").combine_chunks())
    np.testing.assert_allclose(rows, learner.features(inputs).detach().numpy(), rtol=1e-4, atol=1e-6)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert len(manifest["identity"]["pool"]) == len(manifest["identity"]["weights of the model"]) == 64
    assert manifest["identity"]["embedding.kind"] == "'features'"
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["rows"] == 1797


def test_curate_selects_from_what_embed_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: raw images, a checkpoint, gradient embeddings of pool and target, a selection."""
    labels = digits()[1]
    write_digits(tmp_path / "pool.parquet", slice(0, 1500))
    write_digits(tmp_path / "rest.parquet", slice(1500, None), first_id=1500)
    wanted = np.isin(labels[1500:], (3, 6, 9))
    pq.write_table(pq.read_table(tmp_path / "rest.parquet").filter(pa.array(wanted)), tmp_path / "target.parquet")
    save_checkpoint(ModelSpec("mlp", OPTIONS).build(1), tmp_path / "model.safetensors")
    common = [
        *("embedding.kind=gradient", "embedding.projection_dim=48", "embedding.unit_norm=true"),
        f"model.checkpoint={tmp_path / 'model.safetensors'}",
    ]
    for name in ("pool", "target"):
        embed(tmp_path / f"{name}.parquet", tmp_path / name, *common)
    load_job("curate").main(
        compose_job(
            "curate",
            *(f"pool.path={tmp_path / 'pool'}", f"target.path={tmp_path / 'target'}", "pool.columns=[digit]"),
            *("selection.n=30", "cluster.num_shards=0", f"run.dir={tmp_path / 'picked'}", "run.report=false"),
            *("evaluation.class_column=digit", "evaluation.classes=[3,6,9]", "acquisition.noise_variance=0.1"),
        )
    )
    assert "picked 30 of 1,500 rows" in capsys.readouterr().out
    table = pq.read_table(tmp_path / "picked" / "selection.parquet")
    assert len(set(table.column("id").to_pylist())) == 30
    assert set(table.column("id").to_pylist()) <= {f"image-{row}" for row in range(1500)}


def test_an_interrupted_run_goes_on_without_embedding_finished_rows_again(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(embed(pool, tmp_path / "whole").path.parent)
    encode, write = Mlp.encode, EmbeddingParts.write

    def interrupted(parts: EmbeddingParts, part: int, on_rows: Any) -> int:
        if part == 2:
            raise KeyboardInterrupt
        return write(parts, part, on_rows)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingParts, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed(pool, tmp_path / "run")
    assert sorted(contents(tmp_path / "run")) == sorted(whole)[:2]
    embedded = []
    with monkeypatch.context() as patch:
        patch.setattr(Mlp, "encode", lambda self, column: embedded.append(len(column)) or encode(self, column))
        done = embed(pool, tmp_path / "run", "cluster.cpus_per_worker=2")  # where it runs may change
    assert sum(embedded) == 1797 - 768
    assert done.rows_found == 768
    assert "768 were there already" in done.summary().text
    assert contents(tmp_path / "run") == whole
    inodes = {path.name: path.stat().st_ino for path in done.path.iterdir()}
    assert embed(pool, tmp_path / "run").rows_found == 1797  # finished: says so, touches nothing
    assert {path.name: path.stat().st_ino for path in done.path.iterdir()} == inodes


@pytest.mark.cluster
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.")  # Ray Data warns of its own defaults
@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_killed_run_leaves_whole_parts_and_goes_on(pool: Path, tmp_path: Path, workers: str) -> None:
    """SIGKILL the job, as a user's node would be; the same command finishes and the files are those of one go."""
    slow = [
        *(f"model.name={__name__}:SlowMlp", f"run.dir={tmp_path / 'run'}", "output.part_rows=128"),
        *(f"pool.path={pool}", "pool.id_column=name", "pool.raw_column=pixels", f"cluster.num_workers={workers}"),
    ]
    command = [sys.executable, str(ROOT / "jobs" / "embed.py"), *slow]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", PAUSE: "0.3"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as job:
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "run").glob("embeddings/part-*"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        job.send_signal(signal.SIGKILL)
    assert job.returncode == -signal.SIGKILL
    found = contents(tmp_path / "run")
    finished = {name for name in found if name.startswith("part-")}
    assert 3 <= len(finished) < 15
    before = {name: (tmp_path / "run" / "embeddings" / name).stat().st_ino for name in finished}
    settings = to_settings(compose_job("embed", *slow, "run.log=quiet"), EmbedJobSettings)
    done = embed_pool(settings)
    assert done.rows_found == 128 * len(finished)
    assert {name: (done.path / name).stat().st_ino for name in finished} == before
    other = to_settings(compose_job("embed", *slow, "run.log=quiet", f"run.dir={tmp_path / 'one'}"), EmbedJobSettings)
    assert contents(tmp_path / "run") == contents(embed_pool(other).path.parent)


class SlowMlp(Mlp):
    """A model that takes its time where the environment says so, so that a test can kill its process in the midst."""

    def __init__(self) -> None:
        super().__init__(**OPTIONS)

    def encode(self, column):
        time.sleep(float(os.environ.get(PAUSE, 0)))
        return super().encode(column)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("model.seed=1", "weights of the model"),
        ("embedding.unit_norm=true", r"embedding\.unit_norm"),
        ("output.part_rows=500", r"output\.part_rows"),
        ("pool.columns=[]", r"pool\.columns"),
        ("pool", r"changed: pool\)"),
    ],
)
def test_a_run_with_other_inputs_is_refused_by_name(pool: Path, tmp_path: Path, change: str, named: str) -> None:
    embed(pool, tmp_path / "run")
    overrides = []
    if change == "pool":
        write_digits(pool / "b.parquet", slice(900, None), first_id=1000)
    else:
        overrides = [change]
    before = contents(tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=named):
        embed(pool, tmp_path / "run", *overrides)
    assert contents(tmp_path / "run") == before


def test_ids_that_repeat_are_refused_before_any_work(pool: Path, tmp_path: Path) -> None:
    write_digits(pool / "b.parquet", slice(1000, None), first_id=998)
    with pytest.raises(
        InputError, match=r"'image-998' occurs more than once \(a\.parquet row 998 and b\.parquet row 0"
    ):
        embed(pool, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("harm", ["fewer rows", "a repeated id", "damage"])
def test_a_part_that_lost_rows_is_noticed_and_made_again(pool: Path, tmp_path: Path, harm: str) -> None:
    whole = contents(embed(pool, tmp_path / "run").path.parent)
    (tmp_path / "run" / "status.json").unlink()
    path = tmp_path / "run" / "embeddings" / "part-00000003.parquet"
    table = pq.read_table(path)
    if harm == "damage":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        rows = [*range(383)] if harm == "fewer rows" else [0, *range(383)]
        pq.write_table(table.take(rows), path)
    with pytest.raises(RunDirectoryError, match=r"part-00000003\.parquet.*remove"):
        embed(pool, tmp_path / "run")
    path.unlink()
    assert embed(pool, tmp_path / "run").rows_found == 1413
    assert contents(tmp_path / "run") == whole


def test_a_bad_row_is_named_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.ones((70, 64), np.float32)
    values[66, 5] = np.inf
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 64)
    pq.write_table(pa.table({"name": range(70), "pixels": pixels, "digit": [0] * 70}), tmp_path / "bad.parquet")
    with pytest.raises(SystemExit) as caught:
        load_job("embed").main(
            compose_job(
                "embed",
                *(f"pool.path={tmp_path / 'bad.parquet'}", "pool.id_column=name", "pool.raw_column=pixels"),
                *("model.name=mlp", "model.options={input_dim: 64, classes: 10}", "cluster.num_workers=0"),
                f"run.dir={tmp_path / 'run'}",
            )
        )
    assert caught.value.code == 2
    assert "error: file 'bad.parquet', row 66 (counting from 0): column 'pixels'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_half_precision(pool: Path, tmp_path: Path) -> None:
    full, half = (embed(pool, tmp_path / dtype, f"output.dtype={dtype}") for dtype in ("float32", "float16"))
    rows = [read_range(open_source(done.path, id_column="id"), 0, 1797)[1] for done in (full, half)]
    assert np.array_equal(rows[0].astype(np.float16), rows[1])
    model = ModelSpec("mlp", OPTIONS).build(0)
    model.get_parameter("body.0.0.weight").data.mul_(1e6)
    save_checkpoint(model, tmp_path / "large.safetensors")
    with pytest.raises(
        InputError, match=r"^384 rows .*a\.parquet', row 0 .*too large for float16; .*set output\.dtype=float32"
    ):
        embed(pool, tmp_path / "large", "output.dtype=float16", f"model.checkpoint={tmp_path / 'large.safetensors'}")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("pool.path=null", r"pool\.path is not set"),
        ("pool.raw_column=text", r"no column 'text'.*name, pixels, digit.*set pool\.raw_column"),
        ("pool.columns=[digits]", r"no column 'digits' \(did you mean 'digit'\?\).*set pool\.columns"),
        ("pool.id_column=names", r"no column 'names' \(did you mean 'name'\?\).*set pool\.id_column"),
        ("pool.columns=[id]", r"pool\.columns.*other than id and embedding"),
        ("model.name=nosuch", r"model\.name='nosuch'"),
        ("+model.options.nosuch=1", r"model\.options.*nosuch"),
        ("model.options=3", r"model\.options=3"),
        ("model.checkpoint=nosuch.safetensors", r"nosuch\.safetensors' does not exist"),
        ("embedding.kind=logits", r"embedding\.kind"),
        ("output.dtype=int8", r"output\.dtype='int8'"),
        ("output.part_rows=0", r"output\.part_rows=0"),
        ("cluster.num_workers=many", r"cluster\.num_workers='many'"),
        ("cluster.cpus_per_worker=0", r"cluster\.cpus_per_worker=0"),
    ],
)
def test_options_that_cannot_be(pool: Path, tmp_path: Path, override: str, named: str) -> None:
    with pytest.raises((ConfigError, InputError), match=named):
        embed(pool, tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_folders_types_that_differ_and_ids_of_databases_are_embedded(tmp_path: Path) -> None:
    """Columns of folders are carried into the embeddings, from which a selection reads them as columns of files."""
    images, _ = digits()
    ids = [uuid.UUID(int=row << 32) for row in range(600)]
    for part, (split, dtype) in enumerate((("train", np.float32), ("test", np.float64))):
        rows = slice(300 * part, 300 * part + 300)
        pixels = pa.FixedSizeListArray.from_arrays(pa.array(images[rows].astype(dtype).reshape(-1)), 64)
        name = pa.array([each.bytes for each in ids[rows]], pa.uuid())
        digit = pa.array([f"d{row % 3}" for row in range(300)])
        folder = tmp_path / "raw" / f"split={split}"
        folder.mkdir(parents=True)
        digit = digit.dictionary_encode() if part else digit
        pq.write_table(pa.table({"name": name, "pixels": pixels, "digit": digit}), folder / "a.parquet")
    result = embed(tmp_path / "raw", tmp_path / "run", "pool.columns=[split,digit]")
    source = open_source(result.path, id_column="id", columns=["split", "digit"])
    found, _ = read_range(source, 0, 600)
    assert sorted(found) == sorted(map(str, ids))
    table = source.take(np.arange(600), ["split", "digit"])
    assert table.schema.types == [pa.string(), pa.string()]
    for row_id, split, digit in zip(found, *(column.to_pylist() for column in table.columns), strict=True):
        row = int(uuid.UUID(row_id)) >> 32
        assert (split, digit) == ("train" if row < 300 else "test", f"d{row % 300 % 3}")
