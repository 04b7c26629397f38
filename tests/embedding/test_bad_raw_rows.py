"""Raw rows that cannot be embedded, and pools that change between two tries."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.embedding import job
from ray_itl.embedding.job import EmbedResult, embed_pool
from ray_itl.embedding.layout import contents
from ray_itl.embedding.parts import EmbeddingParts
from ray_itl.embedding.settings import (
    EmbeddingModelSettings,
    EmbedJobSettings,
    EmbedRunSettings,
    OutputSettings,
    RawPoolSettings,
    WorkerSettings,
)
from ray_itl.embedding.source import EmbeddedSource
from ray_itl.errors import InputError, RunDirectoryError
from ray_itl.sources.bad_rows import BadRowsError
from ray_itl.sources.manifest import Manifest
from ray_itl.sources.open import open_raw_rows, open_source
from ray_itl.sources.parquet import ParquetRows

ROWS = 100
SKIPPED = "skipped.parquet"


def picture(number: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 255, (28, 28), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


WRONG: dict[str, tuple[bytes | None, str]] = {
    "null": (None, "column 'image': the value is null"),
    "truncated": (picture(1)[:100], "column 'image': cannot be read as a"),
    "text": (b"no image", "column 'image': cannot be read as a"),
}


def write(path: Path, first_id: int, wrong: dict[int, str | None], rows: int = ROWS) -> None:
    """Write images; `wrong` maps rows to what is wrong with them, or None for rows that are left out."""
    kept = [row for row in range(rows) if wrong.get(row, "") is not None]
    images = [WRONG[wrong[row]][0] if row in wrong else picture(first_id + row) for row in kept]  # pyright: ignore
    ids = [None if wrong.get(row) == "null id" else first_id + row for row in kept]
    pq.write_table(pa.table({"id": ids, "image": pa.array(images, pa.binary()), "row": kept}), path)


def settings(pool: Path, run: Path, **raw: Any) -> EmbedJobSettings:
    return EmbedJobSettings(
        pool=RawPoolSettings(str(pool), raw_column="image", columns=["row"], **raw),
        model=EmbeddingModelSettings("mnist_cnn"),
        output=OutputSettings(part_rows=64),
        cluster=WorkerSettings(0),
        run=EmbedRunSettings(str(run), "quiet"),
    )


def embed(pool: Path, run: Path, **raw: Any) -> EmbedResult:
    return embed_pool(settings(pool, run, **raw))


def rows_of(folder: Path) -> dict[int, np.ndarray]:
    source = open_source(folder, id_column="id")
    return {int(i): row for ids, rows in source.batches(0, source.num_rows) for i, row in zip(ids, rows, strict=True)}


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Three files; the second has three bad rows, all in its second part."""
    folder = tmp_path / "pool"
    folder.mkdir()
    write(folder / "a.parquet", 0, {})
    write(folder / "b.parquet", 1000, {70: "null", 80: "truncated", 99: "text"})
    write(folder / "c.parquet", 2000, {})
    return folder


def test_refusal_names_all_and_keeps_every_other_part(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRowsError) as caught:
        embed(pool, tmp_path / "run")
    message = str(caught.value)
    assert message.startswith(f"3 rows cannot be used: file 'b.parquet', row 70 (counting from 0): {WRONG['null'][1]}")
    assert "row 80" in message
    assert "row 99" in message
    assert message.endswith("or set pool.on_bad_row=skip")
    assert sorted(path.name for path in (tmp_path / "run" / "embeddings").iterdir()) == [
        f"part-{number:08d}.parquet" for number in (0, 1, 2, 4, 5)
    ]
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_the_same_command_with_skip_finishes_what_was_refused(pool: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRowsError):
        embed(pool, tmp_path / "run")
    done = embed(pool, tmp_path / "run", on_bad_row="skip")
    assert (done.rows_found, done.skipped) == (264, 3)
    assert "; 3 that cannot be embedded were left out" in done.summary().headline
    found = pq.read_table(tmp_path / "run" / SKIPPED).to_pylist()
    assert [(row["file"], row["row"], row["id"]) for row in found] == [
        ("b.parquet", row, 1000 + row) for row in (70, 80, 99)
    ]
    for row, kind in zip(found, ("null", "truncated", "text"), strict=True):
        assert row["reason"].startswith(WRONG[kind][1])
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["skipped_rows"] == 3
    assert embed(pool, tmp_path / "run").skipped == 3  # it is finished


def test_what_is_left_is_as_without_the_bad_rows(pool: Path, tmp_path: Path) -> None:
    rows = rows_of(embed(pool, tmp_path / "run", on_bad_row="skip").path)
    write(pool / "b.parquet", 1000, {70: None, 80: None, 99: None})
    without = rows_of(embed(pool, tmp_path / "without").path)
    assert list(rows) == list(without)
    for row_id, row in rows.items():
        np.testing.assert_allclose(row, without[row_id], rtol=1e-4, atol=1e-5)


def test_a_null_id_is_a_bad_row_and_a_part_may_be_empty(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 0, {3: "null"}, rows=64)
    write(tmp_path / "b.parquet", 100, dict.fromkeys(range(5), "null"), rows=5)
    table = pq.read_table(tmp_path / "a.parquet")
    ids = pa.array([None if row == 9 else row for row in range(64)])
    (tmp_path / "pool").mkdir()
    pq.write_table(table.set_column(0, "id", ids), tmp_path / "pool" / "a.parquet")
    (tmp_path / "b.parquet").rename(tmp_path / "pool" / "b.parquet")
    done = embed(tmp_path / "pool", tmp_path / "run", on_bad_row="skip")
    assert done.skipped == 7
    assert sorted(rows_of(done.path)) == [row for row in range(64) if row not in (3, 9)]
    found = pq.read_table(tmp_path / "run" / SKIPPED).to_pylist()
    assert [row["id"] for row in found] == [3, None, 100, 101, 102, 103, 104]
    assert found[1]["reason"] == "id column 'id' is null"


def test_no_usable_row_at_all_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 0, dict.fromkeys(range(5), "null"), rows=5)
    for how in ("skip", "refuse"):
        with pytest.raises(BadRowsError, match=r"^5 rows cannot be used"):
            embed(tmp_path / "a.parquet", tmp_path / how, on_bad_row=how)


def encoded(monkeypatch: pytest.MonkeyPatch, pool: Path, run: Path, **raw: Any) -> tuple[int, EmbedResult]:
    """Embed, and return how many rows were."""
    counts: list[int] = []
    plain = EmbeddedSource._embed

    def counting(self: EmbeddedSource, first: int, ids: np.ndarray, *rest: Any) -> np.ndarray:
        counts.append(len(ids))
        return plain(self, first, ids, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedSource, "_embed", counting)
        done = embed(pool, run, **raw)
    return sum(counts), done


@pytest.mark.parametrize(
    "change", ["mended", "row dropped", "file before", "file renamed", "file after", "file gone", "copy of a file"]
)
def test_parts_of_files_that_have_not_changed_are_kept(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    with pytest.raises(BadRowsError):
        embed(pool, tmp_path / "run")
    new = ROWS
    if change == "row dropped":
        write(pool / "b.parquet", 1000, {70: None, 80: None, 99: None})
        new = ROWS - 3
    elif change == "file gone":
        (pool / "b.parquet").unlink()
        new = 0
    else:
        write(pool / "b.parquet", 1000, {})
    if change == "file before":
        write(pool / "0.parquet", 3000, {})
        new += ROWS
    if change == "file after":
        write(pool / "d.parquet", 3000, {}, rows=10)
        new += 10
    if change == "file renamed":
        (pool / "a.parquet").rename(pool / "z.parquet")
    if change == "copy of a file":
        table = pq.read_table(pool / "c.parquet")
        pq.write_table(table.set_column(0, "id", pa.array(range(5000, 5000 + ROWS))), pool / "d.parquet")
        new += ROWS
    count, done = encoded(monkeypatch, pool, tmp_path / "run")
    assert count == new
    fresh = embed(pool, tmp_path / "fresh")
    assert done.num_rows == fresh.num_rows
    for ours, theirs in zip(sorted(done.path.iterdir()), sorted(fresh.path.iterdir()), strict=True):
        assert (ours.name, ours.read_bytes()) == (theirs.name, theirs.read_bytes())
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["identity"] == json.loads((tmp_path / "fresh" / "manifest.json").read_text())["identity"]


@pytest.mark.parametrize("moment", ["put_aside", "renew", "put_back"])
def test_a_crash_while_parts_are_moved_loses_none(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with pytest.raises(BadRowsError):
        embed(pool, tmp_path / "run")
    write(pool / "0.parquet", 3000, {})
    write(pool / "b.parquet", 1000, {})
    with monkeypatch.context() as patch:
        if moment == "renew":
            patch.setattr(job.RunDirectory, "renew", _interrupted)
        else:
            patch.setattr(EmbeddingParts, moment, _with_third_rename_failing(getattr(EmbeddingParts, moment)))
        with pytest.raises(KeyboardInterrupt):
            embed(pool, tmp_path / "run")
    write(pool / "00.parquet", 4000, {})  # and once more, before it goes on
    count, done = encoded(monkeypatch, pool, tmp_path / "run")
    assert count == 3 * ROWS
    assert [path.name for path in sorted(done.path.iterdir())] == [f"part-{k:08d}.parquet" for k in range(10)]
    assert list(rows_of(done.path)) == [first + row for first in (3000, 4000, 0, 1000, 2000) for row in range(ROWS)]


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _with_third_rename_failing(method: Any) -> Any:
    def failing(parts: EmbeddingParts, *arguments: Any) -> Any:
        rename, renamed = Path.rename, []

        def third_fails(path: Path, target: Path) -> Path:
            renamed.append(path)
            if len(renamed) == 3:
                raise KeyboardInterrupt
            return rename(path, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "rename", third_fails)
            return method(parts, *arguments)

    return failing


def test_a_finished_run_of_another_pool_is_left_alone(pool: Path, tmp_path: Path) -> None:
    embed(pool, tmp_path / "run", on_bad_row="skip")
    write(pool / "b.parquet", 1000, {})
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "embeddings").iterdir()}
    with pytest.raises(RunDirectoryError, match=r"changed: pool\).*changed: b\.parquet"):
        embed(pool, tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run" / "embeddings").iterdir()} == before


@pytest.mark.parametrize("name", ["d", "0"])
def test_a_finished_run_goes_on_with_files_that_were_added(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Wherever they stand among the others; again and again."""
    embed(pool, tmp_path / "run", on_bad_row="skip")
    for night in range(2):
        write(pool / f"{name}{night}.parquet", 3000 + 100 * night, {}, rows=10)
        count, done = encoded(monkeypatch, pool, tmp_path / "run", on_bad_row="skip")
        assert (count, done.skipped) == (10, 3)
        assert rows_of(done.path).keys() >= {0, 1000, 3000 + 100 * night}
    fresh, parts = embed(pool, tmp_path / "fresh", on_bad_row="skip"), tmp_path / "run" / "embeddings"
    for ours, theirs in zip(sorted(parts.iterdir()), sorted(fresh.path.iterdir()), strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
    assert pq.read_table(tmp_path / "run" / SKIPPED).equals(pq.read_table(tmp_path / "fresh" / SKIPPED))
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "finished"
    assert encoded(monkeypatch, pool, tmp_path / "run", on_bad_row="skip")[0] == 0


def manifest_of(pool: Path, id_column: str) -> Manifest:
    rows = open_raw_rows(pool, id_column=id_column)
    assert isinstance(rows, ParquetRows)
    return rows.manifest


def test_parts_are_named_by_what_is_in_them(pool: Path) -> None:
    manifest = manifest_of(pool, "id")
    named = contents(manifest, 64)
    assert list(named.values()) == list(range(6))
    assert not set(named) & set(contents(manifest_of(pool, "row"), 64))
    assert not set(named) & set(contents(manifest, 50))


def test_blank_texts_are_bad_rows(tmp_path: Path) -> None:
    texts = ["a", None, "  ", "b"]
    pq.write_table(pa.table({"id": range(4), "text": texts}), tmp_path / "pool.parquet")
    options = EmbedJobSettings(
        pool=RawPoolSettings(str(tmp_path / "pool.parquet"), raw_column="text"),
        model=EmbeddingModelSettings(f"{__name__}:letters"),
        cluster=WorkerSettings(0),
        run=EmbedRunSettings(str(tmp_path / "run"), "quiet"),
    )
    with pytest.raises(
        InputError, match=r"^2 rows .*row 1 .*column 'text': the value is null; .*row 2 .*text is blank"
    ):
        embed_pool(options)
    options.pool.on_bad_row = "skip"
    assert sorted(rows_of(embed_pool(options).path)) == [0, 3]


def letters() -> Any:
    """Return a model that reads texts."""
    import torch

    from ray_itl.training.inputs import decode_texts
    from ray_itl.training.learner import Learner

    class Letters(Learner):
        feature_dim = 2

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(2))

        def encode(self, column: pa.Array) -> dict[str, torch.Tensor]:
            return {"codes": torch.tensor([[float(ord(text[0])), 1.0] for text in decode_texts(column)])}

        def features(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            return inputs["codes"] * self.scale

        def outputs(self, features: torch.Tensor) -> torch.Tensor:
            return features

    return Letters()
