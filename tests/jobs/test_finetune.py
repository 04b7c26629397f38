"""jobs/finetune.py: every experiment composes; a sweep, people's labels and bad options end as the help says."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from ray_itl.cli.config import to_settings
from ray_itl.errors import ConfigError
from ray_itl.experiments.tasks import TASKS
from ray_itl.options.text import from_yaml, to_yaml, with_overrides
from ray_itl.rounds.settings import FineTuneJobSettings, FineTuneSettings
from tests.jobs.helpers import CONFIGS, call_job, compose_job, load_job, run_job
from tests.jobs.test_embed import GOLDEN
from tests.rounds.helpers import write_digits

load_job("finetune")  # names its schema to Hydra
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").iterdir())
OWN_DATA = ["experiment=none", "model.options={input_dim:64,hidden:[16],classes:3}", "training.epochs=5"]


def composed(*overrides: str) -> FineTuneJobSettings:
    return to_settings(compose_job("finetune", *overrides), FineTuneJobSettings)


def options_of(folder: Path) -> list[str]:
    data = write_digits(folder)
    rows = [f"data.{name}={getattr(data, name)}" for name in ("pool", "target", "heldout")]
    return [*OWN_DATA, *rows, "data.raw_column=image", "data.classes=[3,6,9]"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_compose_and_their_variants_are_options(name: str) -> None:
    settings = composed(f"experiment={name}")
    if name == "none":
        assert settings.sweep.variants == {}
        return
    assert settings.task.name in TASKS
    assert {settings.sweep.reference, "random"} & settings.sweep.chosen_variants.keys()
    base = FineTuneSettings(**{f.name: getattr(settings, f.name) for f in fields(FineTuneSettings)})
    made = [with_overrides(base, changes) for changes in settings.sweep.chosen_variants.values()]
    assert len({to_yaml(variant) for variant in made}) == len(made) > 2
    # A sweep's config.yaml replays it.
    assert from_yaml(to_yaml(settings), FineTuneJobSettings) == settings


def test_the_composed_configuration_is_the_committed_one() -> None:
    """To accept a change, write `to_yaml(composed("experiment=mnist_paper"))` to the golden file."""
    assert to_yaml(composed("experiment=mnist_paper")) == (GOLDEN / "finetune.yaml").read_text()


def test_the_papers_own_settings() -> None:
    """Table 1 of the paper."""
    mnist, cifar = composed("experiment=mnist_paper"), composed("experiment=cifar10_paper")
    assert (mnist.rounds.batch, mnist.rounds.targets_per_round, mnist.candidates.count) == (1, 3, 1000)
    assert mnist.acquisition.noise_variance == pytest.approx(0.01**2)
    assert mnist.model.start == "fresh"
    assert (cifar.rounds.count, cifar.rounds.batch, cifar.rounds.targets_per_round) == (100, 10, 10)
    assert (cifar.acquisition.noise_variance, cifar.training.epochs, cifar.model.start) == (1.0, 5, "warm")
    for settings in (mnist, cifar):
        assert settings.training.learning_rate == 1e-3
        assert settings.training.batch_size == 64
        assert settings.training.reweight_classes
        assert settings.data.others == "drop"
        assert settings.sweep.seeds >= 10


def test_help_documents_every_option() -> None:
    text = compose_job("finetune", with_hydra=True).hydra.help.template
    schema = OmegaConf.structured(FineTuneJobSettings)
    names = [f"{group}.{option}" for group, options in schema.items() for option in options]
    assert [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", text)] == []


@pytest.mark.cluster
def test_a_sweep_leaves_a_table_and_a_report(tmp_path: Path) -> None:
    done = run_job(
        "finetune", "sweep.seeds=2", "sweep.only=[itl,random]", "rounds.count=2", "training.epochs=3",
        f"task.cache={tmp_path / 'cache'}", f"run.dir={tmp_path / 'run'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| itl | 0." in done.stdout
    assert "| random | 0." in done.stdout
    curves = pq.read_table(tmp_path / "run" / "learning_curves.parquet")
    assert curves.num_rows == 2 * 2 * 3  # rules, seeds, rounds with the one before training
    assert {"report.html", "table.md", "itl", "random"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_people_are_waited_for_and_the_same_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*options_of(tmp_path), "labels.source=people", "rounds.count=1", "rounds.batch=6"]
    run, truth = tmp_path / "run", pq.read_table(tmp_path / "pool.parquet", columns=["id", "label"])

    def start(code: int) -> str:
        done = call_job("finetune", *command, f"run.dir={run}", capsys=capsys)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def state() -> str:
        return json.loads((run / "status.json").read_text())["state"]

    assert "awaiting labels" in start(0)
    assert state() == "awaiting_labels"
    folder = run / "rounds" / "0001"
    asked = pq.read_table(folder / "to_label.parquet").column("id").to_pylist()
    assert len(asked) == 6
    labels = dict(zip(*(truth.column(name).to_pylist() for name in ("id", "label")), strict=True))
    pq.write_table(pa.table({"id": asked[1:], "label": [labels[i] for i in asked[1:]]}), folder / "labels.parquet")
    said = start(0)
    assert f"awaiting labels of round 1: 5 of 6 rows are labelled, 1 missing (ids {asked[0]})" in said
    assert f"next:    open {folder / 'to_label.html'} in a browser" in said
    pq.write_table(pa.table({"id": asked, "label": [labels[i] for i in asked]}), folder / "labels.parquet")
    assert "1 round, 6 rows labelled" in start(0)
    assert state() == "finished"
    assert [row["num_labelled"] for row in pq.read_table(run / "learning_curves.parquet").to_pylist()] == [0, 6]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("data.pool=null", r"data\.pool"),
        ("data.pool=nowhere.parquet", "nowhere"),
        ("data.raw_column=pixels", "pixels"),
        ("data.classes=[3,6]", "label"),
        ("model.name=nosuch", "nosuch"),
        ("model.options={input_dim:63,classes:3}", "63"),
        ("rounds.batch=0", r"rounds\.batch=0"),
        ("rounds.count=500", "candidates|rows are left|pool has"),
        ("acquisition.name=badge", "gradient"),
        ("trainer.kind=slow", r"trainer\.kind"),
        ("rounds.targets_per_round=21", "targets"),
    ],
)
def test_what_cannot_be_used_is_named_and_leaves_nothing(
    wrong: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    config = compose_job("finetune", *options_of(tmp_path), wrong, f"run.dir={run}", "run.log=quiet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        load_job("finetune").main.__wrapped__(config)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert wrong == "rounds.count=500" or not run.exists()


def test_sweeps_of_variants_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"sweep\.only names best"):
        composed("sweep.only=[best]")
