"""Composed configurations: what the YAML says is what the settings default to, and nothing changes unnoticed."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ray_itl.cli.config import register_schemas, to_settings
from ray_itl.curation.settings import BASELINE_RULES, SEQUENTIAL_RULES, CurationSettings
from ray_itl.errors import ConfigError
from ray_itl.options.text import from_yaml, to_yaml
from ray_itl.rounds.settings import FineTuneJobSettings
from ray_itl.verification.settings import VerifySettings
from tests.jobs.helpers import CONFIGS, compose_job

GOLDEN = Path(__file__).parents[1] / "golden"
SCHEMAS: list[tuple[str, type]] = [("curate", CurationSettings), ("verify", VerifySettings)]


def option_names(kind: type, prefix: str = "") -> list[str]:
    """Return every option of a schema as group.name."""
    names = []
    for field in fields(kind):
        value = field.default_factory() if callable(field.default_factory) else field.default
        if is_dataclass(value):
            names += option_names(type(value), f"{prefix}{field.name}.")
        else:
            names.append(prefix + field.name)
    return names


@pytest.mark.parametrize(("job", "schema"), SCHEMAS)
def test_defaults_in_yaml_are_those_of_the_schema(job: str, schema: type) -> None:
    assert to_settings(compose_job(job), schema) == schema()


@pytest.mark.parametrize(("job", "schema"), SCHEMAS)
def test_the_composed_configuration_is_the_committed_one(job: str, schema: type) -> None:
    """To accept a change, write `to_yaml(to_settings(compose_job(job), schema))` to the golden file."""
    assert to_yaml(to_settings(compose_job(job), schema)) == (GOLDEN / f"{job}.yaml").read_text()


RULES = sorted(path.stem for path in (CONFIGS / "acquisition").iterdir())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("job", "schema"), [("curate", CurationSettings), ("finetune", FineTuneJobSettings)])
def test_every_rule_can_be_named(job: str, schema: type, rule: str) -> None:
    """The word says the rule and nothing else: what an experiment or another option sets stays."""
    register_schemas(finetune_schema=FineTuneJobSettings)
    if rule == "badge" and job == "curate":
        with pytest.raises(ConfigError, match=r"acquisition\.name='badge' cannot be used: use one of itl, vtl"):
            to_settings(compose_job(job, "acquisition=badge"), schema)
        return
    given = ["acquisition.noise_variance=0.3", *(["embedding.kind=gradient"] if rule == "badge" else [])]
    by_word = to_settings(compose_job(job, f"acquisition={rule}", *given), schema)
    assert (by_word.acquisition.name, by_word.acquisition.noise_variance) == (rule, 0.3)
    assert by_word == to_settings(compose_job(job, f"acquisition.name={rule}", *given), schema)


def test_an_experiment_says_what_a_rule_leaves_open() -> None:
    register_schemas(finetune_schema=FineTuneJobSettings)
    settings = to_settings(compose_job("finetune", "acquisition=vtl", "experiment=mnist"), FineTuneJobSettings)
    assert (settings.acquisition.name, settings.acquisition.noise_variance) == ("vtl", 1e-4)


def test_every_rule_has_its_word() -> None:
    assert {*RULES} == {*SEQUENTIAL_RULES, *BASELINE_RULES, "badge"}


def test_option_names_finds_nested_options() -> None:
    assert option_names(VerifySettings) == ["run.dir", "run.log", "sample", "max_steps", "seed"]


@pytest.mark.parametrize(("job", "schema"), SCHEMAS)
def test_help_documents_every_option(job: str, schema: type) -> None:
    text = compose_job(job, with_hydra=True).hydra.help.template
    spelled = {"acquisition.name": "acquisition", "encoder.name": "encoder"}
    names = [spelled.get(name, name) for name in option_names(schema)]
    assert [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", text)] == []


@pytest.mark.parametrize(("job", "schema"), SCHEMAS)
def test_settings_survive_yaml(job: str, schema: type) -> None:
    options = ["pool.path=[a,b]", "target.path=t", "pool.columns=[x]", "state.tick=2026-01-31"]
    overrides = options if job == "curate" else ["sample=5"]
    settings = to_settings(compose_job(job, *overrides), schema)
    assert from_yaml(to_yaml(settings), schema) == settings != schema()


@pytest.mark.parametrize("name", ["2026-01-31", "20260131", "000004", "2026-01-31T03.00Z", "null-1"])
def test_names_of_ticks_stay_as_they_are_typed(name: str) -> None:
    settings = to_settings(compose_job("curate", f"state.tick={name}"), CurationSettings)
    assert settings.state.tick == from_yaml(to_yaml(settings), CurationSettings).state.tick == name


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"selection": {"n": "many"}}, r"selection\.n.*many"),
    ({"selection": {"n": 0}}, r"selection\.n=0"),
    ({"acquisition": {"noise_variance": [1]}}, r"acquisition\.noise_variance"),
    ({"run": {"log": "perhaps"}}, r"run\.log='perhaps' .*lines, quiet, json"),
    ({"run": {"report": "perhaps"}}, r"run\.report.*perhaps"),
    ({"pool": {"pth": "x"}}, "pth"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_settings(OmegaConf.create(options), CurationSettings)


@pytest.mark.parametrize(
    "option", ["pool=${run}", "pool.path=${run}", "pool.columns=${run.report}", "pool.columns=${run}"]
)
def test_an_option_does_not_refer_to_a_group_of_others(option: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option.partition('=')[0]} refers to other options as a whole"):
        to_settings(compose_job("curate", option), CurationSettings)


def test_an_option_may_refer_to_another_one() -> None:
    options = ["pool.columns=[a,b]", "evaluation.classes=${pool.columns}", "evaluation.class_column=${pool.columns[0]}"]
    settings = to_settings(compose_job("curate", *options), CurationSettings)
    assert (settings.evaluation.classes, settings.evaluation.class_column) == (["a", "b"], "a")


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "unknown: 1"])
def test_text_that_is_no_configuration(text: str) -> None:
    with pytest.raises(ConfigError):
        from_yaml(text, CurationSettings)
