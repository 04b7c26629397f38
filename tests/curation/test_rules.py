"""A rule of the user's own, by name and as an instance, does all that the rules of this package do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ray_itl.api import select
from ray_itl.core.acquisitions import RULES, load_rule
from ray_itl.core.acquisitions.base import Acquisition
from ray_itl.core.acquisitions.information_gain import InformationGain
from ray_itl.core.acquisitions.uncertainty import Uncertainty
from ray_itl.core.acquisitions.variance_reduction import VarianceReduction
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.rules import build_acquisition, settings_of
from ray_itl.curation.run import curate
from ray_itl.curation.settings import AcquisitionSettings, CurationSettings
from ray_itl.errors import ConfigError, InputError, RunDirectoryError
from ray_itl.options.text import from_yaml
from ray_itl.verification.settings import FinishedRun, VerifySettings
from ray_itl.verification.verify import verify
from tests.curation.test_curation import StopAfter
from tests.helpers import Files, clustered
from tests.house import ROOT
from tests.jobs.helpers import run_job
from tests.ticks.helpers import Growing
from tests.user_rules import Renamed, Scaled

pytestmark = pytest.mark.usefixtures("small_blocks")
RENAMED, SCALED = "tests.user_rules:Renamed", "tests.user_rules:Scaled"
THRICE = Scaled(1.0, factors=torch.tensor([3.0], dtype=torch.float64))
ALMOST_THRICE = Scaled(1.0, factors=torch.tensor([3.0 + 1e-12], dtype=torch.float64))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def check(folder: Path) -> Any:
    return verify(VerifySettings(FinishedRun(str(folder))))


def config_of(run: Path) -> CurationSettings:
    return from_yaml((run / "config.yaml").read_text(), CurationSettings)


def test_a_rule_by_name_picks_is_explained_and_is_verified(files: Files) -> None:
    itl = files.run(files.settings("itl"))
    options: dict[str, Any] = {"acquisition": {"name": RENAMED}, "selection": {"explain": True}}
    settings = files.settings("own", **options)
    own = files.run(replace(settings, run=replace(settings.run, report=True)))
    assert own.ids == itl.ids
    assert own.gains.tolist() == itl.gains.tolist()
    assert own.table.column("runner_up").null_count == 0
    assert RENAMED in (files.folder / "own" / "report.html").read_text()
    found = check(files.folder / "own")
    assert found.right, found.summary().text
    assert RENAMED in found.summary().text

    table = pq.read_table(files.folder / "own" / "selection.parquet")
    pq.write_table(table.take([1, 0, *range(2, 12)]), files.folder / "own" / "selection.parquet")
    assert not check(files.folder / "own").right


def test_a_rule_without_a_dense_definition_runs_but_is_not_verified(files: Files) -> None:
    settings = files.settings(acquisition={"name": SCALED})
    own = files.run(replace(settings, run=replace(settings.run, report=True)))
    itl = files.run(files.settings(None))
    assert own.ids == itl.ids
    np.testing.assert_allclose(own.gains, 2 * itl.gains, rtol=1e-12)
    assert f"by {SCALED}" in (files.folder / "run" / "report.html").read_text()
    with pytest.raises(ConfigError, match=r"Scaled has no dense definition to check picks by: give the class a static"):
        check(files.folder / "run")


def test_a_rule_by_name_ticks(tmp_path: Path) -> None:
    picks = []
    for name in ("itl", RENAMED):
        growing = Growing(tmp_path / name.rpartition(":")[2])
        for number in range(2):
            growing.grow(number)
            growing.tick(f"t{number}", acquisition={"name": name})
        picks.append(growing.all_picks())
    assert picks[0] == picks[1]
    assert [len(tick) for tick in picks[0]] == [5, 5]


@pytest.mark.cluster
def test_a_rule_on_the_command_line(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = run_job(
        "curate", f"pool.path={files.pool}", f"target.path={files.target}", f"acquisition.name={RENAMED}",
        "acquisition.noise_variance=1", "selection.n=12", "cluster.num_shards=0", "run.dir=own", "run.report=false",
        cwd=files.folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    picked = pq.read_table(files.folder / "own" / "selection.parquet")
    assert picked.column("id").to_pylist() == files.run(files.settings(None)).ids


@pytest.mark.cluster
@pytest.mark.parametrize("rule", [Renamed(1.0), THRICE], ids=["described", "in memory"])
def test_an_instance_travels_to_shards(files: Files, rule: Acquisition) -> None:
    found = select(files.pool, files.target, 12, acquisition=rule, num_shards=2, address="local")
    assert found.ids == files.run(files.settings(None)).ids


def test_an_instance_that_options_describe_is_its_name(files: Files) -> None:
    run = files.folder / "run"
    rule = Renamed(0.3, target_noise_variance=0.1)
    first = select(files.pool, files.target, 12, acquisition=rule, run_dir=run)
    assert first.ids == select(files.pool, files.target, 12, noise_variance=0.3, target_noise_variance=0.1).ids
    assert config_of(run).acquisition == AcquisitionSettings(RENAMED, 0.3, 0.1)
    assert check(run).right
    again = select(files.pool, files.target, 12, acquisition=Renamed(0.3, 0.1), run_dir=run)
    by_name = select(
        files.pool, files.target, 12, acquisition=RENAMED, noise_variance=0.3, target_noise_variance=0.1, run_dir=run
    )
    assert again.ids == by_name.ids == first.ids
    with pytest.raises(RunDirectoryError, match=r"acquisition\.noise_variance"):
        select(files.pool, files.target, 12, acquisition=Renamed(0.31, 0.1), run_dir=run)


def test_an_interrupted_run_of_an_instance_goes_on_with_an_equal_one_only(files: Files) -> None:
    settings = files.settings(acquisition={"name": settings_of(THRICE).name}, selection={"n": 40})
    with pytest.raises(InterruptedError):
        curate(settings, Inputs(rule=THRICE), StopAfter(2))
    run, picks = files.folder / "run", select(files.pool, files.target, 40, noise_variance=1.0).ids
    with pytest.raises(RunDirectoryError, match=r"acquisition\.name"):
        select(files.pool, files.target, 40, acquisition=ALMOST_THRICE, run_dir=run)
    with pytest.raises(ConfigError, match=r"was an instance, which options cannot describe: hand an equal one to"):
        curate(config_of(run))
    equal = Scaled(1.0, factors=torch.tensor([3.0], dtype=torch.float64))
    found = select(files.pool, files.target, 40, acquisition=equal, run_dir=run)
    assert found.ids == picks
    with pytest.raises(InputError, match=r"acquisition was in memory \(<tests\.user_rules:Scaled\("):
        check(run)


def test_an_instance_of_a_class_that_no_other_process_finds() -> None:
    class Local(InformationGain):
        """Not in any module."""

    assert settings_of(Local(1.0)).in_memory
    rows = clustered(80, seed=1)
    assert select(rows, rows[:5], 6, acquisition=Local(1.0)).ids == select(rows, rows[:5], 6, noise_variance=1.0).ids


@pytest.mark.parametrize("name", RULES)
def test_instances_of_registered_rules_are_their_names(name: str) -> None:
    rule = load_rule(name).from_options(0.5)
    assert settings_of(rule) == AcquisitionSettings(name, 0.5)
    assert build_acquisition(settings_of(rule)) == rule
    rows = clustered(80, seed=1)
    found, by_name = (select(rows, rows[:5], 6, acquisition=each, noise_variance=0.5) for each in (rule, name))
    assert (found.ids, found.gains.tolist()) == (by_name.ids, by_name.gains.tolist())


def test_options_of_a_rule() -> None:
    assert InformationGain.from_options(0.1, 0.2, (1.0, -1.0)) == InformationGain(0.1, 0.2, (1.0, -1.0))
    assert VarianceReduction.from_options(0.1, 0.2, (2.0,)) == VarianceReduction(0.1, (2.0,))
    assert Uncertainty.from_options(0.1, 0.2, (2.0,)) == Uncertainty(0.1)
    assert [name for name in RULES if load_rule(name).takes_tasks] == ["itl", "vtl"]


def test_a_user_rule_sums_over_tasks_if_it_says_so() -> None:
    rows, target, away = clustered(80, seed=1), clustered(9, seed=2), clustered(5, seed=9)
    own, itl = (select(rows, target, 6, acquisition=rule, avoid=away) for rule in (RENAMED, "itl"))
    assert own.ids == itl.ids
    with pytest.raises(ConfigError, match=r"avoid\.path has no meaning for .*Scaled: use itl or vtl$"):
        select(rows, target, 6, acquisition=SCALED, avoid=away)
    with pytest.raises(ConfigError, match=r"avoid\.path has no meaning for .*Scaled"):
        select(rows, target, 6, acquisition=THRICE, avoid=away)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "iltl",
            r"acquisition\.name='iltl' cannot be used: use one of itl, vtl, uncertainty, nearest, .* module:Class",
        ),
        ("tests.user_rules:Absent", r"acquisition\.name='tests.user_rules:Absent' cannot be imported"),
        ("tests.absent:Renamed", r"acquisition\.name='tests.absent:Renamed' cannot be imported"),
        ("tests.user_rules:no_rule", r"no_rule' is not a rule: name a subclass of"),
        ("tests.user_rules:Demanding", r"Demanding cannot be built from options \(.*factor.*\): give its further"),
        ("tests.user_rules:Bits", r"Bits\.unit is 'bits': use nats or variance"),
        (InformationGain, r"acquisition\.name=<class .*> cannot be used"),
        (Renamed(0.0), r"acquisition\.noise_variance=0\.0 cannot be used: give a number > 0"),
        (Renamed(0.5), r"noise_variance=2\.0 is not that of acquisition=Renamed\(noise_variance=0\.5.*leave it out"),
    ],
)
def test_what_is_no_rule_is_refused(rule: Any, message: str) -> None:
    rows = clustered(20, seed=1)
    with pytest.raises(ConfigError, match=message):
        select(rows, rows[:3], 2, acquisition=rule, noise_variance=2.0)
