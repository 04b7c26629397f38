"""Right runs are found right; runs tampered with are found wrong, at the step that is."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.api import select
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.open import open_problem
from ray_itl.errors import ConfigError, InputError
from ray_itl.verification.replay import Replay
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import Verification, verify
from tests.helpers import Files, clustered, table_of
from tests.oracle import dense_greedy

pytestmark = pytest.mark.usefixtures("small_blocks")


def check(folder: Path, **options: int) -> Verification:
    return verify(VerifySettings(FinishedRun(str(folder)), **options))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def finished(tmp_path: Path) -> Files:
    """A finished run to tamper with, in the folder `run`."""
    files = Files(tmp_path)
    files.run(files.settings())
    return files


RUNS: dict[str, dict[str, Any]] = {
    "itl": {},
    "vtl": {"acquisition": {"name": "vtl"}, "target": {"weight_column": "weight"}},
    "uncertainty": {"acquisition": {"name": "uncertainty"}},
    "noiseless targets": {"acquisition": {"target_noise_variance": 0.0, "noise_variance": 0.1}},
    "weights": {"target": {"weight_column": "weight"}, "acquisition": {"noise_variance": 0.01}},
    "unit norm in float16": {"pool": {"features": "unit_norm", "dtype": "float16"}},
    "random features": {"pool": {"features": "random_fourier", "fourier_features": 32}},
    "replacement": {"selection": {"n": 20, "replacement": True}, "acquisition": {"noise_variance": 0.5}},
    "floor": {"selection": {"min_similarity": 0.2}},
    "floor as a percentage": {"selection": {"min_similarity": "90%"}, "pool": {"features": "unit_norm"}},
    "nearest": {"acquisition": {"name": "nearest"}},
    "cosine": {"acquisition": {"name": "cosine"}, "target": {"weight_column": "weight"}},
    "cosine of tasks": {
        "acquisition": {"name": "cosine"},
        "target": {"task_column": "weight", "task_weights": {"2.0": 3}},
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_right_runs_are_right(files: Files, name: str) -> None:
    folder = f"run {name}"
    files.run(files.settings(folder, **RUNS[name]))
    found = check(files.folder / folder)
    assert found.right, found.summary().text
    assert found.num_steps == found.num_picks == (20 if name == "replacement" else 12)
    assert found.num_rows == 300
    assert "right" in found.summary().text


def test_known_rows_and_text_ids(tmp_path: Path) -> None:
    files = Files(tmp_path, text_ids=True)
    files.run(files.settings(known={"path": str(files.known)}))
    found = check(tmp_path / "run")
    assert found.right, found.summary().text


def test_exact_copies_tie_to_the_smaller_id(tmp_path: Path) -> None:
    files = Files(tmp_path)
    rows = np.repeat(clustered(60, seed=4), 3, axis=0)
    pq.write_table(table_of(rows), tmp_path / "copies.parquet")
    files.run(files.settings(pool={"path": str(tmp_path / "copies.parquet")}))
    found = check(tmp_path / "run")
    assert found.right, found.summary().text

    ids = pq.read_table(tmp_path / "copies.parquet").column("id").to_numpy()
    first = pq.read_table(tmp_path / "run" / "selection.parquet").slice(0, 1)
    row = first.column("row")[0].as_py()
    larger = max(range(row // 3 * 3, row // 3 * 3 + 3), key=lambda i: ids[i])
    rewrite(tmp_path / "run", lambda table: put(put(table, "row", 0, larger), "id", 0, int(ids[larger])), ledger=True)
    found = check(tmp_path / "run")
    assert found.wrong[0][:2] == (1, ids[larger])
    assert found.wrong[0].better == first.column("id")[0].as_py()


def test_the_rows_that_came_close_are_compared(files: Files) -> None:
    picked = files.run(files.settings("close", n=40)).ids
    path = files.folder / "close" / "challengers.parquet"
    table = pq.read_table(path)
    ids = files.table.column("id").to_pylist()
    assert len(table) > 0
    assert [ids[position] for position in table.column("position").to_pylist()] == table.column("id").to_pylist()
    others = [position for position, row_id in enumerate(ids) if row_id not in picked][:3]
    more = pa.table({"position": others, "id": [ids[position] for position in others]}, table.schema)
    pq.write_table(pa.concat_tables([table, more]), path)
    found = check(files.folder / "close", sample=1, max_steps=5)
    assert found.num_challengers == len(table) + 3
    assert found.num_steps == 5
    assert 43 <= found.num_rows <= 44
    assert found.right


@pytest.mark.parametrize("name", ["itl", "vtl", "uncertainty"])
@pytest.mark.parametrize("target_noise", [None, 0.0])
def test_replayed_gains_are_those_of_the_dense_reference(files: Files, name: str, target_noise: float | None) -> None:
    settings = files.settings(acquisition={"name": name, "target_noise_variance": target_noise})
    problem = open_problem(settings, Inputs(str(files.pool), str(files.target), str(files.known)))
    rows = torch.from_numpy(clustered(40, seed=7)).double()
    ids = np.arange(40)
    picks = dense_greedy(name, rows, ids, problem.targets, 6, 1.0, target_noise, problem.known)
    order = np.array([pick.index for pick in picks])
    open_rows = {step: ~np.isin(ids, order[:step]) for step in range(7)}
    samples = [(problem.targets, 1.0)]
    replay = Replay(problem, settings.acquisition, rows, ids, samples, order, np.ones(40), None, open_rows)
    recorded = np.array([pick.gain for pick in picks])
    assert replay.check(range(6), recorded) == ([], [])
    off = recorded * (1 + 3e-6 * (np.arange(6) == 4))
    assert [gain.rank for gain in replay.check([0, 4, 5], off)[1]] == [5]


def rewrite(run: Path, change: Any, ledger: bool = False) -> None:
    """Change selection.parquet, and make the ledger agree if asked to."""
    path = run / "selection.parquet"
    table = change(pq.read_table(path))
    gains = table.column("gain").to_numpy()
    table = table.set_column(table.column_names.index("cumulative_gain"), "cumulative_gain", pa.array(np.cumsum(gains)))
    pq.write_table(table, path)
    if not ledger:
        return
    starts = {f"part-{k}.parquet": 100 * k for k in range(3)} | {"copies.parquet": 0}
    for block in sorted((run / "ledger").iterdir()):
        content = json.loads(block.read_text())
        for pick in content["picks"]:
            row = table.slice(pick["step"], 1).to_pylist()[0]
            pick.update(id=row["id"], gain=row["gain"], position=starts[row["file"]] + row["row"])
        content["sha256"] = hashlib.sha256(json.dumps(content["picks"], sort_keys=True).encode()).hexdigest()
        block.write_text(json.dumps(content))


def put(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(values, table.schema.field(column).type))


def swap(table: pa.Table) -> pa.Table:
    """Swap the picks of ranks 3 and 6, ranks staying in order."""
    order = list(range(len(table)))
    order[2], order[5] = order[5], order[2]
    return table.take(order).set_column(0, "rank", table.column("rank"))


@pytest.mark.parametrize("ledger", [False, True])
def test_two_picks_swapped(finished: Files, ledger: bool) -> None:
    before = pq.read_table(finished.folder / "run" / "selection.parquet").column("id").to_pylist()
    rewrite(finished.folder / "run", swap, ledger)
    found = check(finished.folder / "run")
    assert (found.wrong[0].rank, found.wrong[0].picked, found.wrong[0].better) == (3, before[5], before[2])
    assert found.wrong[0].better_value > found.wrong[0].value
    assert bool(found.contradictions) == (not ledger)
    assert str(before[2]) in found.summary().text
    assert "WRONG" in found.summary().text


def test_a_worse_row_in_place_of_a_pick(finished: Files) -> None:
    run = finished.folder / "run"
    taken = pq.read_table(run / "selection.parquet")
    worse = next(
        row for row in range(100) if finished.table.column("id")[row].as_py() not in taken.column("id").to_pylist()
    )
    row_id = finished.table.column("id")[worse].as_py()

    def change(table: pa.Table) -> pa.Table:
        return put(put(put(table, "id", 4, row_id), "row", 4, worse), "file", 4, "part-0.parquet")

    rewrite(run, change, ledger=True)
    found = check(run)
    assert not found.contradictions
    assert (found.wrong[0].rank, found.wrong[0].picked) == (5, row_id)
    assert found.wrong[0].better == taken.column("id")[4].as_py()
    assert found.wrong_gains[0].rank == 5


def test_a_gain_altered(finished: Files) -> None:
    run = finished.folder / "run"
    gain = pq.read_table(run / "selection.parquet").column("gain")[7].as_py()
    rewrite(run, lambda table: put(table, "gain", 7, gain * (1 + 1e-5)), ledger=True)
    found = check(run)
    assert (found.wrong, [g.rank for g in found.wrong_gains]) == ([], [8])
    assert not found.right


def test_an_id_that_is_not_in_its_place(finished: Files) -> None:
    rewrite(finished.folder / "run", lambda table: put(table, "id", 1, 10**6))
    found = check(finished.folder / "run")
    assert "rank 2 of selection.parquet has id 1000000" in found.contradictions[0]


def test_a_row_that_the_pool_does_not_have(finished: Files) -> None:
    rewrite(finished.folder / "run", lambda table: put(table, "row", 1, 1000))
    found = check(finished.folder / "run")
    assert len(found.contradictions) == 1
    assert "rank 2 of selection.parquet is row 1000 of 'part-" in found.contradictions[0]
    assert not found.right


def test_picks_missing(finished: Files) -> None:
    rewrite(finished.folder / "run", lambda table: table.slice(0, 11))
    found = check(finished.folder / "run")
    assert found.contradictions[:2] == [
        "selection.parquet does not hold ranks 1 to 12",
        "the ledger has 12 picks, selection.parquet 11",
    ]


@pytest.mark.parametrize("rule", ["nearest", "cosine"])
def test_swapped_picks_of_a_baseline(tmp_path: Path, rule: str) -> None:
    files = Files(tmp_path)
    files.run(files.settings(acquisition={"name": rule}))
    rewrite(tmp_path / "run", swap)
    assert check(tmp_path / "run").wrong[0].rank == 3


def test_what_cannot_be_checked(finished: Files, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.dir is not set"):
        verify(VerifySettings())
    with pytest.raises(InputError, match="holds no run"):
        check(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    finished.run(finished.settings("by chance", acquisition={"name": "random"}))
    with pytest.raises(ConfigError, match="random picks are the best of nothing"):
        check(tmp_path / "by chance")
    status = tmp_path / "run" / "status.json"
    status.write_text(status.read_text().replace("finished", "running"))
    with pytest.raises(InputError, match="unfinished run: finish it"):
        check(tmp_path / "run")


@pytest.mark.parametrize("name", ["selection.parquet", "challengers.parquet", "config.yaml"])
def test_a_missing_file_is_named(finished: Files, name: str) -> None:
    (finished.folder / "run" / name).unlink()
    with pytest.raises(InputError, match=name):
        check(finished.folder / "run")


def test_a_pool_file_changed_since(finished: Files) -> None:
    pq.write_table(table_of(clustered(100, seed=8)), finished.pool / "part-1.parquet")
    with pytest.raises(InputError, match=r"changed: pool\)"):
        check(finished.folder / "run")


def test_a_pool_in_memory(tmp_path: Path) -> None:
    select(clustered(50, seed=1), clustered(5, seed=2), 3, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match=r"pool was in memory \(<ndarray in memory>\)"):
        check(tmp_path / "run")
