"""Runs on texts that are embedded on the way: the picks of the same rows embedded before, each row embedded once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_itl import select
from ray_itl.curation.machine_settings import MachineSettings
from ray_itl.curation.planning import planned
from ray_itl.curation.planning_elsewhere import planned_elsewhere
from ray_itl.curation.run import curate
from ray_itl.curation.settings import CurationSettings, with_absolute_paths
from ray_itl.embedding.functions import FunctionEncoder
from ray_itl.embedding.job import embed_pool
from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.settings import (
    EmbeddingModelSettings,
    EmbeddingSettings,
    EmbedJobSettings,
    EmbedRunSettings,
    RawPoolSettings,
    WorkerSettings,
)
from ray_itl.errors import ConfigError, InputError
from ray_itl.observability.reporter import Reporter
from ray_itl.selection import Selection
from ray_itl.training.checkpoint import save_checkpoint
from ray_itl.training.registry import ModelSpec
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests import user_encoders
from tests.curation.test_curation import Listener, StopAfter
from tests.ticks.helpers import Growing
from tests.training.test_language_model import write_tiny_llama
from tests.user_encoders import Words

ROWS, EXAMPLES = 240, 20


def texts(count: int, seed: int, words: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in rng.integers(words, size=6)) for _ in range(count)]


def as_lines(rows: list[dict[str, Any]], path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Lines:
    """A pool and examples as JSON lines, and the same embedded before, as Parquet."""

    def __init__(self, folder: Path, num_rows: int = ROWS) -> None:
        self.folder = folder
        self.texts, self.examples = texts(num_rows, 1), texts(EXAMPLES, 2, words=20)
        rows = [{"text": text, "label": number % 5} for number, text in enumerate(self.texts)]
        for part in range(3):
            as_lines(rows[part * num_rows // 3 : (part + 1) * num_rows // 3], folder / "pool" / f"part-{part}.jsonl")
        as_lines([{"text": text} for text in self.examples], folder / "examples.jsonl")
        self.embed("pool.parquet", rows)
        self.embed("examples.parquet", [{"text": text} for text in self.examples])

    def embed(self, name: str, rows: list[dict[str, Any]]) -> None:
        embeddings = Words()([row["text"] for row in rows])
        table = pa.Table.from_pylist(rows)
        column = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
        pq.write_table(table.append_column("embedding", column), self.folder / name)

    def settings(self, run: str | None, n: int = 12, **changes: Any) -> CurationSettings:
        """Options of a run on the lines."""
        base = CurationSettings()
        groups = {
            "pool": {"path": str(self.folder / "pool")},
            "target": {"path": str(self.folder / "examples.jsonl")},
            "encoder": {"name": "tests.user_encoders:words"},
            "selection": {"n": n},
            "cluster": {"num_shards": 0},
            "run": {"dir": None if run is None else str(self.folder / run), "report": False, "log": "quiet"},
        }
        for group, options in changes.items():
            groups[group] = {**groups.get(group, {}), **options}
        return replace(base, **{group: replace(getattr(base, group), **options) for group, options in groups.items()})

    def embedded(self, run: str | None, n: int = 12, **changes: Any) -> CurationSettings:
        """Options of a run on what was embedded before."""
        pool, target = ({"path": str(self.folder / f"{name}.parquet")} for name in ("pool", "examples"))
        pool, target = {**pool, **changes.pop("pool", {})}, {**target, **changes.pop("target", {})}
        own: dict[str, Any] = {"pool": pool, "target": target, "encoder": {"name": None}}
        return self.settings(run, n, **own, **changes)

    def run(self, settings: CurationSettings, reporter: Reporter | None = None) -> tuple[Selection, int]:
        """Return a selection, and how many values were embedded for it."""
        user_encoders.asked.clear()
        selection = curate(settings, reporter=reporter)
        return selection, len(user_encoders.asked)


def picked(selection: Selection) -> list[tuple[int, float]]:
    """The place of each pick in the whole pool, and its gain."""
    starts = {f"part-{part}.jsonl": part * ROWS // 3 for part in range(3)}
    table = selection.table
    places = [
        starts.get(file, 0) + row for file, row in zip(table["file"].to_pylist(), table["row"].to_pylist(), strict=True)
    ]
    return list(zip(places, table["gain"].to_pylist(), strict=True))


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    yield Lines(tmp_path)
    user_encoders.asked.clear()


def test_texts_are_picked_as_rows_embedded_before_are(lines: Lines) -> None:
    expected = picked(lines.run(lines.embedded(None))[0])
    listener = Listener()
    selection, asked = lines.run(lines.settings("run"), listener)
    assert picked(selection) == expected
    assert asked == ROWS + EXAMPLES
    assert "of the pool column 'text' is embedded" in listener.lines
    assert f"  embedded {ROWS} rows; 0 were known, or are like others" in listener.lines
    assert selection.metrics["embedded_rows"] == ROWS
    written = (lines.folder / "run" / "selection.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in written] == [lines.texts[place] for place, _ in expected]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, about the newest transformers
def test_rows_are_picked_by_what_they_would_teach_a_language_model(lines: Lines) -> None:
    """By gradients of adapters at two moments of a training: as when they are embedded first."""
    pytest.importorskip("peft")
    (lines.folder / "model").mkdir()
    model = str(write_tiny_llama(lines.folder / "model", [f"w{word}" for word in range(60)]))
    options = {"path": model, "lora_rank": 2, "lora_modules": ["q_proj", "v_proj"]}
    moments = []
    for seed, rate in ((1, 2e-5), (2, 1e-5)):
        save_checkpoint(ModelSpec("causal_lm", options).build(seed), lines.folder / f"{seed}", trainable_only=True)
        moments.append({"path": str(lines.folder / f"{seed}"), "learning_rate": rate})
    how = {"kind": "lora_gradient", "unit_norm": True, "projection_dim": 128}
    pool, target = pa.array(lines.texts[:80]), pa.array(lines.examples)
    encoder = {"name": "causal_lm", "options": options, "checkpoints": moments, "batch_size": 16, **how}
    settings = lines.settings("run", 5, encoder=encoder, pool={"path": str(lines.folder / "pool" / "part-0.jsonl")})
    made = open_encoder(
        EmbeddingModelSettings("causal_lm", options, checkpoints=moments), EmbeddingSettings(**how, batch_size=16)
    )
    expected = select(made.embed_column(pool), made.embed_column(target), n=5)
    assert curate(settings).table["row"].to_pylist() == expected.ids
    wrong = replace(settings.encoder, kind="features", projection_dim=None)
    with pytest.raises(ConfigError, match=r"encoder\.checkpoints=.*set encoder\.kind=lora_gradient"):
        curate(replace(settings, encoder=wrong, run=replace(settings.run, dir=None)))


def test_picks_are_those_of_embedding_first_and_selecting_then(lines: Lines) -> None:
    def embed(path: str) -> str:
        pool = RawPoolSettings(path=str(lines.folder / path), id_column=None)
        model, cluster = EmbeddingModelSettings("tests.user_encoders:words"), WorkerSettings(num_workers=0)
        run = EmbedRunSettings(dir=str(lines.folder / f"embedded {path}"), log="quiet")
        return str(embed_pool(EmbedJobSettings(pool=pool, model=model, cluster=cluster, run=run)).path)

    first = lines.embedded(None, target={"path": embed("examples.jsonl")}, pool={"path": embed("pool")})
    expected, selection = lines.run(first)[0], lines.run(lines.settings(None))[0]
    assert selection.ids == expected.ids
    assert selection.gains.tolist() == expected.gains.tolist()


def test_later_runs_embed_what_they_never_saw(lines: Lines) -> None:
    lines.run(lines.settings("first"))
    assert lines.run(lines.settings("again"))[1] == 0
    other = as_lines([{"text": text} for text in texts(7, 5)], lines.folder / "other.jsonl")
    assert lines.run(lines.settings("other", target={"path": str(other)}))[1] == 7
    part = lines.folder / "pool" / "part-2.jsonl"
    part.rename(part.with_name("renamed.jsonl"))
    with part.with_name("renamed.jsonl").open("a") as file:
        file.write(json.dumps({"text": "a new one"}) + "\n" + json.dumps({"text": lines.texts[0]}) + "\n")
    assert lines.run(lines.settings("appended"))[1] == 1


@pytest.mark.usefixtures("small_blocks")
def test_a_run_is_resumed_and_checked_without_embedding_anything_again(lines: Lines) -> None:
    expected = lines.run(lines.settings(None, n=24))[0]
    with pytest.raises(InterruptedError):
        lines.run(lines.settings("run", n=24), StopAfter(2))
    selection, asked = lines.run(lines.settings("run", n=24))
    assert selection.ids == expected.ids
    assert selection.gains.tolist() == expected.gains.tolist()
    found = verify(VerifySettings(FinishedRun(str(lines.folder / "run"))))
    assert (found.num_steps, found.contradictions, found.wrong, found.wrong_gains) == (24, [], [], [])
    assert (asked, len(user_encoders.asked)) == (0, 0)


def test_rows_embedded_anew_in_other_last_bits_are_the_same_run(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    selection = lines.run(lines.settings("run"))[0]
    monkeypatch.setenv("RAY_ITL_CACHE", str(lines.folder / "elsewhere"))
    exact = Words.__call__
    monkeypatch.setattr(Words, "__call__", lambda self, values: np.nextafter(exact(self, values), np.float32(9)))
    assert lines.run(lines.settings("run"))[0].ids == selection.ids  # finished already
    found = verify(VerifySettings(FinishedRun(str(lines.folder / "run"))))
    assert (found.contradictions, found.wrong) == ([], [])


def test_another_encoder_or_column_is_another_run(lines: Lines) -> None:
    lines.run(lines.settings("run"))
    with pytest.raises(ConfigError, match=r"changed: encoder, pool, targets"):
        lines.run(lines.settings("run", encoder={"options": {"salt": "s"}}))
    rows = [{"text": text, "title": f"title {text}"} for text in lines.texts]
    pool = as_lines(rows, lines.folder / "titles.jsonl")
    lines.run(lines.settings("two", pool={"path": str(pool)}))
    with pytest.raises(ConfigError, match=r"changed: encoder, pool"):
        lines.run(lines.settings("two", pool={"path": str(pool), "text_column": "title"}))


def test_known_rows_and_rows_to_avoid_are_embedded_by_the_same_encoder(lines: Lines) -> None:
    def of_form(form: str) -> dict[str, Any]:
        return {name: {"path": str(lines.folder / f"{name}.{form}")} for name in ("known", "avoid")}

    known, avoid = texts(6, 8), texts(5, 9)
    for name, rows in (("known", known), ("avoid", avoid)):
        as_lines([{"text": text} for text in rows], lines.folder / f"{name}.jsonl")
        lines.embed(f"{name}.parquet", [{"text": text} for text in rows])
    of_lines, of_rows = of_form("jsonl"), of_form("parquet")
    expected = picked(lines.run(lines.embedded(None, **of_rows))[0])
    selection, asked = lines.run(lines.settings("run", **of_lines))
    assert picked(selection) == expected
    assert asked == ROWS + EXAMPLES + 11
    as_lines([{"text": "other"}], lines.folder / "known.jsonl")
    with pytest.raises(ConfigError, match="changed: known rows"):
        lines.run(lines.settings("run", **of_lines))


def test_held_out_rows_are_embedded_by_the_same_encoder(lines: Lines) -> None:
    leaked = [3, 100, 239]
    rows = [{"text": text} for text in [*texts(9, 8, words=2000), *(lines.texts[row] for row in leaked)]]
    as_lines(rows, lines.folder / "test.jsonl")
    lines.embed("test.parquet", rows)
    of_rows: dict[str, Any] = {"heldout": {"path": str(lines.folder / "test.parquet"), "max_similarity": 0.9999}}
    of_lines: dict[str, Any] = {"heldout": {"path": str(lines.folder / "test.jsonl"), "max_similarity": 0.9999}}
    expected = lines.run(lines.embedded(None, **of_rows))[0]
    listener = Listener()
    selection, asked = lines.run(lines.settings("run", **of_lines), listener)
    assert picked(selection) == picked(expected)
    assert asked == ROWS + EXAMPLES + 9
    assert selection.heldout is not None
    assert [f"test.jsonl:{9 + k}" for k in range(3)] == selection.heldout["heldout_id"].to_pylist()
    found = verify(VerifySettings(FinishedRun(str(lines.folder / "run"))))
    assert (found.contradictions, found.wrong) == ([], [])
    # As embeddings before, it may be compared by text, too: the column of texts is no other one then.
    both: dict[str, Any] = {"heldout": {**of_lines["heldout"], "text_column": "text"}}
    selection = lines.run(lines.settings(None, **both))[0]
    assert picked(selection) == picked(expected)
    assert selection.heldout is not None
    assert set(selection.heldout["reason"].to_pylist()) == {"same text"}
    as_lines(rows[1:], lines.folder / "test.jsonl")
    with pytest.raises(ConfigError, match="changed: held-out rows"):
        lines.run(lines.settings("run", **of_lines))
    in_python = select(
        lines.texts, lines.examples, 12, encoder="tests.user_encoders:words", heldout=[row["text"] for row in rows],
        heldout_options={"max_similarity": 0.9999},
    )  # fmt: skip
    assert in_python.ids == [place for place, _ in picked(expected)]


def test_folders_of_images_are_embedded(lines: Lines) -> None:
    rng = np.random.default_rng(4)
    for folder, count in (("photos/cats", 12), ("photos/dogs", 8), ("wanted", 4)):
        (lines.folder / folder).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(256, size=(2, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(lines.folder / folder / f"{number}.png")
    paths = {name: {"path": str(lines.folder / folder)} for name, folder in (("pool", "photos"), ("target", "wanted"))}
    listener, options = Listener(), {**paths, "encoder": {"name": "tests.user_encoders:shades"}}
    selection, asked = lines.run(lines.settings("run", n=5, **options), listener)
    assert (asked, len(selection)) == (24, 5)
    assert "of the pool column 'image' is embedded" in listener.lines
    assert all(str(name).endswith(".png") and (lines.folder / "photos" / str(name)).exists() for name in selection.ids)
    (lines.folder / "photos" / "cats" / "0.png").rename(lines.folder / "photos" / "dogs" / "other.png")
    assert lines.run(lines.settings("again", n=5, **options))[1] == 0


def test_saved_datasets_are_embedded(lines: Lines) -> None:
    datasets = pytest.importorskip("datasets")
    expected = picked(lines.run(lines.embedded(None))[0])
    datasets.Dataset.from_dict({"text": lines.texts}).save_to_disk(lines.folder / "saved")
    selection = lines.run(lines.settings(None, pool={"path": str(lines.folder / "saved")}))[0]
    assert selection.table["gain"].to_pylist() == [gain for _, gain in expected]


def test_prompts_and_completions_are_embedded_as_conversations(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FunctionEncoder, "remarks", lambda _, kind: [f"model.name reads {kind.value_type.num_fields}"])
    pairs = [{"prompt": f"what is {text}", "completion": f"that is {text}"} for text in lines.texts[:30]]
    pool, target = as_lines(pairs, lines.folder / "pairs.jsonl"), as_lines(pairs[:4], lines.folder / "few.jsonl")
    listener = Listener()
    options = {"pool": {"path": str(pool)}, "target": {"path": str(target)}}
    selection, asked = lines.run(lines.settings("run", n=5, **options), listener)
    assert "of the pool column 'messages' is embedded" in listener.lines
    assert asked == 30
    assert user_encoders.asked[0] == [
        {"role": "user", "content": pairs[0]["prompt"]},
        {"role": "assistant", "content": pairs[0]["completion"]},
    ]
    assert listener.warnings.count("encoder reads 2") == 1
    assert "encoder reads 2" in planned(lines.settings("plan", n=5, **options)).table()
    tables = [pa.Table.from_pylist(rows) for rows in (pairs, pairs[:4])]
    in_memory = select(tables[0], tables[1], 5, encoder="tests.user_encoders:words")
    assert [f"pairs.jsonl:{row}" for row in in_memory.ids] == selection.ids
    scanned = pads.dataset([pads.dataset(tables[0])])
    assert select(scanned, tables[1], 5, encoder="tests.user_encoders:words").ids == in_memory.ids


def test_rows_that_a_filter_leaves_out_are_not_embedded(lines: Lines) -> None:
    expected = picked(lines.run(lines.embedded(None, pool={"filter": "label < 2"}))[0])
    selection, asked = lines.run(lines.settings(None, pool={"filter": "label < 2"}))
    assert picked(selection) == expected
    assert asked == ROWS * 2 // 5 + EXAMPLES


def test_rows_that_cannot_be_embedded_are_refused_or_skipped(lines: Lines) -> None:
    rows: list[dict[str, Any]] = [{"text": text} for text in lines.texts]
    rows[3], rows[50], rows[77] = {"text": None}, {"text": "  "}, {"text": "infinite"}
    pool = as_lines(rows, lines.folder / "spoiled.jsonl")
    with pytest.raises(InputError, match=r"3 rows cannot be used: file 'spoiled.jsonl', row 3 .*'text' is null.*skip"):
        lines.run(lines.settings("refused", pool={"path": str(pool)}))
    assert not (lines.folder / "refused").exists()
    selection = lines.run(lines.settings("run", pool={"path": str(pool), "on_bad_row": "skip"}))[0]
    assert selection.skipped is not None
    assert selection.skipped["row"].to_pylist() == [3, 50, 77]
    assert not {"spoiled.jsonl:3", "spoiled.jsonl:50", "spoiled.jsonl:77"} & set(selection.ids)
    with pytest.raises(InputError, match=r"targets: file 'spoiled.jsonl', row 3|targets: 3 rows cannot be used"):
        lines.run(lines.settings("targets", target={"path": str(pool)}))


def test_a_pool_with_embeddings_is_taken_as_it_is(lines: Lines) -> None:
    listener = Listener()
    expected = picked(lines.run(lines.embedded(None))[0])
    mixed = lines.settings(None, pool={"path": str(lines.folder / "pool.parquet")})
    selection, asked = lines.run(mixed, listener)
    assert picked(selection) == expected
    assert asked == EXAMPLES
    assert "the pool has embeddings, in column 'embedding': they are taken as they are" in listener.lines
    anew = replace(mixed, pool=replace(mixed.pool, text_column="text"))
    assert lines.run(anew)[1] == ROWS
    listener = Listener()
    lines.run(replace(lines.embedded(None), encoder=mixed.encoder), listener)
    assert "beware: encoder=tests.user_encoders:words embeds nothing, since all rows have embeddings" in listener.lines


def test_what_cannot_be_embedded_is_refused_by_name(lines: Lines) -> None:
    two = as_lines([{"name": "a", "note": "b", "label": 1}] * 9, lines.folder / "two.jsonl")
    with pytest.raises(InputError, match=r"several columns could be embedded: name, note; set pool\.text_column"):
        lines.run(lines.settings("run", pool={"path": str(two)}))
    with pytest.raises(InputError, match=r"no column 'nome' \(did you mean .*'name'.*set pool\.text_column to one"):
        lines.run(lines.settings("run", pool={"path": str(two), "text_column": "nome"}))
    numbers = as_lines([{"a": 1, "b": 2.5}] * 9, lines.folder / "numbers.jsonl")
    with pytest.raises(InputError, match=r"no column of texts or images .* set target\.text_column"):
        lines.run(lines.settings("run", target={"path": str(numbers)}))
    with pytest.raises(InputError, match=r"set pool\.embedding_column to one of them, or set encoder to a model"):
        lines.run(lines.settings("run", encoder={"name": None}))
    with pytest.raises(ConfigError, match=r"pool\.text_column=text has no meaning without encoder"):
        lines.settings("run", encoder={"name": None}, pool={"text_column": "text"})
    with pytest.raises(ConfigError, match=r"encoder\.cache_limit=4 KiB, but the embeddings of 240 rows take"):
        lines.run(lines.settings("run", encoder={"cache_limit": "4KiB"}))
    with pytest.raises(ConfigError, match="nowhere"):
        lines.run(lines.settings("run", encoder={"name": "nowhere:factory"}))
    with pytest.raises(ConfigError, match="failed"):
        lines.run(lines.settings("run", encoder={"name": "tests.user_encoders:failing"}))
    assert not (lines.folder / "run").exists()


def test_a_plan_counts_what_was_never_seen_and_keeps_nothing(lines: Lines) -> None:
    lines.run(lines.settings("first", pool={"filter": "label < 2"}))
    before = sorted((lines.folder / "cache" / "embeddings").rglob("*.safetensors"))
    plan = planned(lines.settings("plan"))
    assert plan.embedding is not None
    new = ROWS * 3 // 5
    assert (plan.embedding.num_new, plan.embedding.is_exact) == (new, True)
    assert f"{new} of {ROWS} rows were never seen" in plan.table()
    assert plan.summary().facts["rows_to_embed"] == new
    assert plan.embed_seconds > 0
    assert sorted((lines.folder / "cache" / "embeddings").rglob("*.safetensors")) == before
    lines.run(lines.settings("second"))
    plan = planned(lines.settings("plan"))
    assert plan.embedding is not None
    assert (plan.embedding.num_new, plan.embedding.embed_rows, plan.embed_seconds) == (0, None, 0.0)
    assert f"0 of {ROWS} rows were never seen" in plan.table()
    assert "Nothing was run. Kept are the embeddings of those target, " in plan.table()
    assert planned(lines.embedded("plan")).table().endswith("Nothing was run or kept.")


def test_a_plan_for_other_machines_counts_embedding_and_keeps_nothing(lines: Lines) -> None:
    settings, kept = lines.settings("plan"), lines.folder / "cache" / "embeddings"
    planned(settings)  # which keeps those of the examples
    before = sorted(kept.rglob("*.safetensors"))
    machines = MachineSettings(4, 8, "64GiB", rows=ROWS * 1000)
    plan = planned_elsewhere(settings, machines)
    assert plan.embedding is not None
    assert (plan.embedding.num_new, plan.embedding.is_exact) == (ROWS * 1000, False)
    assert plan.embed_s == pytest.approx(plan.embedding.seconds * plan.rates.num_threads / 32)
    assert f"to embed  about {ROWS * 1000:,} rows that were never seen, on all CPUs" in plan.table()
    lines.run(lines.settings("run"))
    again, before = planned_elsewhere(settings, machines), sorted(kept.rglob("*.safetensors"))
    assert again.embedding is not None
    assert again.embedding.num_new == ROWS * 999  # all but those at hand
    assert again.embed_s > 0
    low = plan.summary().facts["seconds"][0]
    assert low > plan.embed_s
    assert sorted(kept.rglob("*.safetensors")) == before


def test_nights_of_texts_embed_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    growing, pool = Growing(tmp_path / "night"), tmp_path / "texts"
    examples = as_lines([{"text": text} for text in texts(9, 2)], tmp_path / "examples.jsonl")
    options: dict[str, Any] = {
        "pool": {"path": str(pool)},
        "target": {"path": str(examples)},
        "encoder": {"name": "tests.user_encoders:words"},
        "acquisition": {"noise_variance": None},
    }
    for night, expected in enumerate((40 + 9, 30, 30)):
        as_lines([{"text": text} for text in texts(40, 10 + night)], pool / f"night-{night}.jsonl")
        if night:  # a quarter of it was there the night before
            both = [*texts(40, 10 + night)[:30], *texts(40, 10 + night - 1)[:10]]
            as_lines([{"text": text} for text in both], pool / f"night-{night}.jsonl")
        user_encoders.asked.clear()
        tick = growing.tick(f"night-{night}", **options)
        assert tick.record.candidate_rows == 40
        assert len(user_encoders.asked) == expected
    with pytest.raises(ConfigError, match=r"made with other options \(changed: encoder"):
        growing.tick("last", **{**options, "encoder": {"name": "tests.user_encoders:words", "options": {"salt": "s"}}})
    user_encoders.asked.clear()


def test_lists_frames_and_paths_are_pools_in_python(lines: Lines) -> None:
    pandas = pytest.importorskip("pandas")
    expected = [place for place, _ in picked(lines.run(lines.embedded(None))[0])]
    name = "tests.user_encoders:words"
    assert select(lines.texts, lines.examples, 12, encoder=name).ids == expected
    frame = pandas.DataFrame({"what": lines.texts, "label": range(ROWS)})
    found = select(frame, lines.examples, 12, encoder=name, columns=["what"])
    assert found.ids == expected
    assert found.table["what"].to_pylist() == [lines.texts[place] for place in expected]
    by_path = select(lines.folder / "pool", lines.folder / "examples.jsonl", 12, encoder=name, text_column="text")
    assert [place for place, _ in picked(by_path)] == expected
    with pytest.raises(InputError, match=r"no column 'embedding'.* or set encoder to a model"):
        select(lines.texts, lines.examples, 12)


def test_relative_folders_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name, cache, expected in (
        ("model", "kept", (str(tmp_path / "model"), str(tmp_path / "kept"))),
        ("a/b", "~/kept", ("a/b", "~/kept")),
        (None, "s3://bucket/kept", (None, "s3://bucket/kept")),
    ):
        base = CurationSettings()
        encoder = replace(base.encoder, name=name, cache=cache)
        found = with_absolute_paths(replace(base, encoder=encoder)).encoder
        assert (found.name, found.cache) == expected


@pytest.mark.cluster
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("in_memory", [False, True])
def test_shards_embed_the_rows_that_they_hold(lines: Lines, in_memory: bool) -> None:
    expected = picked(lines.run(lines.embedded(None))[0])
    shards: dict[str, Any] = {"num_shards": 2, "cpus_per_shard": 0.1}
    if in_memory:
        found = select(lines.texts, lines.examples, 12, encoder="tests.user_encoders:words", num_shards=2)
        assert found.ids == [place for place, _ in expected]
        assert found.metrics["embedded_rows"] == ROWS
        assert set(user_encoders.asked) <= {*lines.examples}
        return
    selection, asked = lines.run(lines.settings("shards", cluster=shards))
    assert picked(selection) == expected
    assert (asked, selection.metrics["embedded_rows"]) == (EXAMPLES, ROWS)
    again = lines.run(lines.settings("again", cluster=shards))[0]
    assert again.metrics["embedded_rows"] == 0
