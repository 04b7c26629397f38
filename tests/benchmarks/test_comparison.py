import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import worker
from benchmarks.comparison import Measurement, _hopeless, run_comparison
from benchmarks.comparison_report import comparison_tables, render_comparison
from benchmarks.data import tiled, write_matrices
from benchmarks.peers import ITL, PEERS, VTL, Peer, Problem
from benchmarks.settings import BenchmarkSettings, PeersSettings
from ray_itl.errors import ConfigError
from tests.oracle import dense_greedy

SMALL = PeersSettings(
    data=["synthetic"],
    num_rows=[300],
    lines=[],
    dim=16,
    num_targets=5,
    n=8,
    num_threads=1,
    repeats=1,
    only=[ITL, "torch, one pass a pick", "random"],
)
PROBLEM_ROWS = 400


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    matrices = write_matrices("synthetic", PROBLEM_ROWS, 5, 16, 0, tmp_path, lambda _: None)
    return Problem(matrices.pool_rows(list(range(PROBLEM_ROWS))), matrices.target_rows(), 8, 0.1, 1)


@pytest.mark.parametrize("name", list(PEERS))
@pytest.mark.filterwarnings("ignore")  # of packages of others
def test_every_peer_that_is_installed_picks_rows_of_the_pool(name: str, problem: Problem) -> None:
    peer = PEERS[name]
    for module in peer.modules:
        pytest.importorskip(module)
    picks = [int(index) for index in peer.select(problem)]
    assert len(picks) == problem.n
    assert set(picks) <= set(range(PROBLEM_ROWS))
    if name in (ITL, "torch, one pass a pick", "submodlib LogDetMI"):
        exact = dense_greedy(
            "itl", problem.pool_tensor.double(), np.arange(PROBLEM_ROWS), problem.exact_targets, 8, 0.1
        )
        assert picks == [pick.index for pick in exact]
    if name in (VTL, "activeft VTL, flat"):
        exact = dense_greedy(
            "vtl", problem.pool_tensor.double(), np.arange(PROBLEM_ROWS), problem.exact_targets, 8, 0.1
        )
        assert picks == [pick.index for pick in exact]


@pytest.mark.cluster
def test_peers_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    said: list[str] = []
    (comparison,) = run_comparison(SMALL, 0, tmp_path, said.append)
    assert list(comparison.measurements) == [(name, size) for name in SMALL.only for size in SMALL.num_rows]
    for measured in comparison.measurements.values():
        assert measured.stopped == ""
        assert measured.seconds > 0
        assert measured.num_picks == measured.num_distinct == SMALL.n
    ours, plain, random = (comparison.measurements[name, 300].worth for name in SMALL.only)
    assert ours is not None
    assert random is not None
    assert ours == plain
    assert ours.nats > random.nats
    table = comparison_tables([comparison], SMALL)
    assert table.count(f"\n| {ITL} |") == 4
    assert "Ahead of every rule of ray_itl at N = 300: " in table
    faster = replace(comparison.measurements["torch, one pass a pick", 300], seconds=1e-9)
    won = replace(comparison, measurements=comparison.measurements | {(faster.peer, 300): faster})
    assert "at N = 300: in seconds torch, one pass a pick" in comparison_tables([won], SMALL)
    page = render_comparison([comparison], SMALL, "this machine")
    assert len(re.findall('class="figure"', page)) == 4
    assert "this machine" in page
    assert said


def test_a_peer_that_stops_is_not_tried_on_larger_pools(tmp_path: Path) -> None:
    settings = replace(SMALL, num_rows=[600, 300], time_limit_s=1e-5, only=[ITL])
    (comparison,) = run_comparison(settings, 0, tmp_path, lambda _: None)
    assert [m.stopped for m in comparison.measurements.values()] == ["time: over 1e-05 s", "-"]
    table = comparison_tables([comparison], settings)
    assert f"| {ITL} | time: over 1e-05 s | - |" in table
    assert "at N = 300: not compared" in table


def test_repeats_are_for_quick_selections_only(problem: Problem, tmp_path: Path, monkeypatch) -> None:
    pool, targets = tmp_path / "pool.npy", tmp_path / "targets.npy"
    np.save(pool, problem.pool, allow_pickle=False)
    np.save(targets, problem.targets, allow_pickle=False)
    task = worker.WorkerTask("random", str(pool), str(targets), "", 300, 8, 0.1, 1, 3, 60.0)
    answer = worker.solve(task)
    assert len(answer.seconds) == 3
    assert max(answer.picks) < 300
    monkeypatch.setattr(worker, "_REPEAT_BELOW_S", 0.0)
    assert len(worker.solve(task).seconds) == 1


def test_memory_is_that_of_the_selection(problem: Problem, tmp_path: Path, monkeypatch) -> None:
    def hungry(problem: Problem) -> list[int]:
        held = np.ones(20 * 2**20)
        return [int(held[0])] * problem.n

    monkeypatch.setitem(worker.PEERS, "hungry", Peer("hungry", "", "", hungry))
    for path, rows in ((tmp_path / "pool.npy", problem.pool), (tmp_path / "targets.npy", problem.targets)):
        np.save(path, rows, allow_pickle=False)
    paths = str(tmp_path / "pool.npy"), str(tmp_path / "targets.npy")
    answer = worker.solve(worker.WorkerTask("hungry", *paths, "", 300, 8, 0.1, 1, 1, 60.0))
    assert 150 * 2**20 < answer.extra_bytes < 300 * 2**20


def test_rows_beyond_the_real_ones_are_near_copies() -> None:
    real = np.eye(4, dtype=np.float32)
    rows = tiled(real, 10, np.random.default_rng(0))
    assert (rows[:4] == real).all()
    assert rows[4:8] == pytest.approx(real, abs=0.3)
    assert not (rows[4:8] == real).any(axis=1).all()
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": ["nosuch"]},
        {"num_rows": [8]},
        {"num_rows": [], "lines": []},
        {"lines": [8]},
        {"n": 0},
        {"noise_variance": 0.0},
        {"memory_limit": "much"},
    ],
)
def test_options_are_checked(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="peers"):
        BenchmarkSettings(peers=replace(SMALL, **wrong))


def test_a_peer_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'nosuch' is no peer; there are ray_itl ITL"):
        run_comparison(replace(SMALL, only=["nosuch"]), 0, tmp_path, lambda _: None)


def test_what_a_straight_line_puts_far_beyond_the_limit_is_not_tried() -> None:
    def row(*seconds: float) -> list[Measurement]:
        return [Measurement("p", 10 ** (k + 3), value) for k, value in enumerate(seconds)]

    # What takes a while before it begins (a compiler, say) tells nothing about growth.
    assert _hopeless(row(20.0), 10_000, 10.0) == ""
    assert _hopeless(row(20.0, 20.5), 100_000, 14.0) == ""
    assert _hopeless(row(1.0, 10.0), 100_000, 49.0) == "time: 100 s if linear"
    assert _hopeless(row(1.0, 10.0), 100_000, 51.0) == ""
    assert _hopeless([*row(1.0), Measurement("p", 10_000, stopped="memory: over 1 GiB")], 100_000, 60.0) == "-"
