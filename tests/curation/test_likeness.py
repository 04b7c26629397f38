"""A floor under the picks' similarity to targets, from option to record; and a word where picks are unlike them all."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.api import select
from ray_itl.core.posterior import Targets
from ray_itl.curation.percentage import share_of
from ray_itl.curation.planning import planned
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.curation.summary import summarise
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.options.text import from_yaml, to_yaml
from tests.core.test_similarity_floor import cosines_one_by_one
from tests.curation.test_curation import Listener, StopAfter
from tests.helpers import Files, clustered
from tests.oracle import DenseLimits, dense_greedy
from tests.report.pages import Page
from tests.ticks.helpers import Growing
from tests.verification.test_verification import check

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def embeddings(path: Path) -> torch.Tensor:
    return torch.tensor(np.array(pq.read_table(path).column("embedding").to_pylist()))


def likeness(files: Files) -> np.ndarray:
    return cosines_one_by_one(embeddings(files.pool), Targets.uniform(embeddings(files.target)))


def expected_ids(files: Files, n: int, limit: float) -> list[int]:
    """The picks of the dense reference among the rows that reach a limit."""
    ids = files.table.column("id").to_numpy()
    barred = frozenset(np.flatnonzero(likeness(files) < limit).tolist())
    limits = DenseLimits(n, torch.ones(len(ids), dtype=torch.float64), barred=barred)
    targets = Targets.uniform(embeddings(files.target))
    picks = dense_greedy("itl", embeddings(files.pool), ids, targets, n, 1.0, limits=limits)
    return ids[[pick.index for pick in picks]].tolist()


@pytest.mark.parametrize("num_shards", [0, pytest.param(3, marks=pytest.mark.cluster)])
@pytest.mark.parametrize("asked", [0.9, "90%"])
def test_picks_are_the_references(files: Files, asked: Any, num_shards: int) -> None:
    listener, own = Listener(), likeness(files)
    limit = np.sort(own)[270] if asked == "90%" else 0.9
    cluster = {"num_shards": num_shards}
    selection = files.run(files.settings(n=20, selection={"min_similarity": asked}, cluster=cluster), listener)
    assert selection.ids == expected_ids(files, 20, limit)
    left = int((own >= limit).sum())
    assert selection.metrics["min_similarity"] == {"limit": limit, "rows": left}
    words = f"{left} rows have a cosine of at least {limit:.6g} to a target: no other is picked"
    assert f"  selection.min_similarity={asked} of 300 rows that may be picked: {words}" in listener.lines
    assert words in summarise(selection).text
    assert check(files.folder / "run").right


def test_it_counts_the_rows_that_may_be_picked(files: Files, tmp_path: Path) -> None:
    own, ids = likeness(files), files.table.column("id").to_pylist()
    out = [ids[row] for row in np.argsort(-own)[:100].tolist()]
    found = select(files.pool, files.target, 5, exclude=out, min_similarity="95%", run_dir=tmp_path / "run")
    assert found.metrics["min_similarity"] == {"limit": np.sort(own)[190], "rows": 10}


def test_fewer_rows_than_asked_for(files: Files) -> None:
    for asked, rows in (("95%", 15), (1.0, 0)):
        run = f"run {rows}"
        listener = Listener()
        settings = files.settings(run, n=20, selection={"min_similarity": asked, "explain": True})
        found = files.run(replace(settings, run=replace(settings.run, report=True)), listener)
        assert (len(found), found.metrics["stop"]) == (rows, "no_rows")
        words = (
            f"selection.min_similarity={asked} leaves {rows} rows, fewer than selection.n=20: lower it to pick as many"
        )
        assert words in listener.warnings
        assert check(files.folder / run).right
        assert ("target_similarity" in found.metrics) == (rows > 0)


def test_an_interrupted_run_goes_on_with_the_same_floor(files: Files) -> None:
    asked = {"min_similarity": "80%"}
    expected = files.run(files.settings("whole", n=24, selection=asked))
    with pytest.raises(InterruptedError):
        files.run(files.settings(n=24, selection=asked), StopAfter(2))
    for other in ({"min_similarity": "81%"}, {"min_similarity": 0.3}, {}):
        with pytest.raises(RunDirectoryError, match=r"changed: selection\.min_similarity\)"):
            files.run(files.settings(n=24, selection=other))
    again = files.run(files.settings(n=24, selection=asked))
    assert again.table.equals(expected.table)
    assert again.metrics["min_similarity"] == expected.metrics["min_similarity"]


def test_other_limits_hold_beside_it(files: Files) -> None:
    for path in sorted(files.pool.iterdir()):
        table = pq.read_table(path)
        kinds = np.array(["a", "b", "c"])[np.arange(table.num_rows) % 3]
        pq.write_table(table.append_column("kind", [kinds.tolist()]), path, row_group_size=40)
    limits = {
        "min_similarity": "70%", "cost_column": "weight", "budget": 30.0, "per_cost": True, "min_distance": 0.01,
        "quotas": {"kind": {"b": {"min": 7}, "*": {"max": 0.5}}},
    }  # fmt: skip
    found = files.run(files.settings(n=20, selection=limits, pool={"columns": ["kind"]}))
    own = dict(zip(files.table.column("id").to_pylist(), likeness(files), strict=True))
    assert min(own[row] for row in found.ids) >= found.metrics["min_similarity"]["limit"]
    assert found.table.column("kind").to_pylist().count("b") >= 7
    checked = check(files.folder / "run")
    assert checked.right, checked.summary().text


def test_each_tick_has_a_floor_of_its_own_candidates(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "growing")
    target = Targets.uniform(embeddings(growing.target))
    for number, asked in enumerate(["75%", None, "50%", 1.0]):
        growing.grow(number)
        listener = Listener()
        tick = growing.tick(f"t{number}", n=30, reporter=listener, selection={"min_similarity": asked})
        run = tmp_path / "growing" / "state" / tick.record.path
        metrics = json.loads((run / "metrics.json").read_text())
        own = np.sort(cosines_one_by_one(embeddings(growing.pool / f"part-{number:02d}.parquet"), target))
        rows = {"75%": 15, None: 60, "50%": 30, 1.0: 0}[asked]
        assert tick.record.picks == min(30, rows)
        if asked in ("75%", "50%"):
            assert metrics["min_similarity"] == {"limit": own[60 - rows], "rows": rows}
            assert any(f"={asked} of 60 candidates of this tick: {rows} rows" in line for line in listener.lines)
        checked = check(run)
        assert checked.right, checked.summary().text


@pytest.mark.parametrize("asked", ["80%", 0.5])
def test_a_floor_that_is_tampered_with_is_found_out(files: Files, asked: Any) -> None:
    files.run(files.settings(n=24, selection={"min_similarity": asked}))
    path = files.folder / "run" / "metrics.json"
    metrics = json.loads(path.read_text())
    found = metrics["min_similarity"]
    wrong = [{**found, "limit": found["limit"] + by} for by in (1e-3, -1e-3)]
    wrong += [{**found, "rows": found["rows"] + 1}] if asked == "80%" else []
    for each in wrong:
        path.write_text(json.dumps({**metrics, "min_similarity": each}))
        assert any("metrics.json says that" in text for text in check(files.folder / "run").contradictions)
    path.write_text(json.dumps({name: value for name, value in metrics.items() if name != "min_similarity"}))
    assert "does not say what number" in check(files.folder / "run").contradictions[0]


def test_a_pick_below_the_floor_is_found_out(files: Files) -> None:
    selection = files.run(files.settings(n=12))
    own = dict(zip(files.table.column("id").to_pylist(), likeness(files), strict=True))
    worst = float(min(own[row] for row in selection.ids))
    config, manifest = (files.folder / "run" / name for name in ("config.yaml", "manifest.json"))
    options = from_yaml(config.read_text(), CurationSettings)
    options = replace(options, selection=replace(options.selection, min_similarity=worst + 1e-6))
    config.write_text(to_yaml(options))
    content = json.loads(manifest.read_text())
    content["identity"]["selection.min_similarity"] = repr(worst + 1e-6)
    manifest.write_text(json.dumps(content))
    path = files.folder / "run" / "metrics.json"
    floor = {"limit": worst + 1e-6, "rows": 1}
    path.write_text(json.dumps({**json.loads(path.read_text()), "min_similarity": floor}))
    found = check(files.folder / "run")
    assert [breach.reason for breach in found.breaches] == [
        "its cosine to every target is below selection.min_similarity"
    ]


def test_a_plan_has_one_more_pass(files: Files) -> None:
    plain, floored = (planned(files.settings(None, selection={"min_similarity": a})) for a in (None, "95%"))
    assert floored.passes == (plain.passes[0] + 1, plain.passes[1] + 1)


@given(st.integers(0, 10_000))
def test_a_share_is_what_it_says(hundredths: int) -> None:
    assert share_of(f"{hundredths // 100}.{hundredths % 100:02d}%") == Fraction(hundredths, 10_000)


@pytest.mark.parametrize("bad", [1.01, -1.5, True, "0.3", "101%", "%", float("nan"), [0.3], "-5%"])
def test_what_it_cannot_be(bad: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"selection\.min_similarity=.* cannot be used: give a cosine from -1 to 1, or"
    ):
        SelectionSettings(min_similarity=bad)


def test_picks_opposite_to_one_target_are_warned_of(tmp_path: Path) -> None:
    """With a linear kernel a gain depends on the square of a correlation."""
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((3000, 16)).astype(np.float32)
    quiet: dict[str, Any] = {"noise_variance": 0.1, "features": "unit_norm"}
    found = select(pool, pool[:1], 50, run_dir=tmp_path / "run", **quiet)
    own = (pool @ pool[0]) / np.linalg.norm(pool, axis=1) / np.linalg.norm(pool[0])
    told = found.metrics["target_similarity"]
    assert told["sampled_rows"] == 2000
    assert told["pool_similarity"] == pytest.approx(np.quantile(own, 0.95), abs=0.05)
    assert told["picks_below"] == (own[found.ids] < told["pool_similarity"]).sum()
    assert told["picks_opposite"] == (own[found.ids] < 0).sum() > 10
    (warning,) = (words for words in found.metrics["warnings"] if "negative cosine" in words)
    assert warning.startswith(f"Of 50 picks {told['picks_below']} are less like every target than the 5% of the pool")
    assert "set selection.min_similarity=95%, raise acquisition.relative_noise" in warning
    page = Page((tmp_path / "run" / "report.html").read_text()).text
    assert warning in page
    assert "Picks beside the targets" in page
    for options in ({**quiet, "min_similarity": 0.0}, {**quiet, "acquisition": "random"}):
        other = select(pool, pool[:1], 50, **options)
        assert not any("negative cosine" in words for words in other.metrics.get("warnings", []))
        assert other.metrics["target_similarity"]["pool_similarity"] == told["pool_similarity"]


def test_what_picks_are_judged_by_depends_on_no_order_of_rows() -> None:
    rows, target = clustered(2500, seed=1), clustered(5, seed=2)
    order = np.random.default_rng(0).permutation(len(rows))
    ids = np.arange(len(rows))
    tables = [pa.table({"id": ids[o], "embedding": list(rows[o])}) for o in (slice(None), order)]
    first, second = (select(table, target, 9).metrics["target_similarity"] for table in tables)
    assert first == second


def test_picks_for_which_there_is_no_room_among_the_most_alike_are_not_counted() -> None:
    rows, target = clustered(200, seed=1), clustered(1, seed=2)
    found = select(rows, target, 200)
    assert found.metrics["target_similarity"]["picks_below"] == 190
    assert found.metrics["target_similarity"]["picks_unlike"] > 50
    assert not any("less like every target" in words for words in found.metrics.get("warnings", []))


def test_picks_of_another_task_are_warned_of() -> None:
    """Rows of two tasks, at right angles; long rows of the other one, with a little of the target's."""
    rng = np.random.default_rng(0)
    rows = np.zeros((1000, 8), dtype=np.float32)
    rows[:100, :4] = 1 + 0.1 * rng.standard_normal((100, 4))
    rows[100:, 4:] = 40 * rng.standard_normal((900, 4))
    rows[100:, :4] = 4
    found = select(rows, rows[:3], 20)
    told = found.metrics["target_similarity"]
    assert told["picks_unlike"] > 15
    assert told["picks_opposite"] == 0
    (warning,) = (words for words in found.metrics["warnings"] if "not half as like" in words)
    assert "0 have a negative cosine to every target: they may be of another task. To pick rows more" in warning
