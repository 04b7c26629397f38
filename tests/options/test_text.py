"""Settings as YAML: written as ever, read back as they were, and refused in words."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.errors import ConfigError
from ray_itl.options.text import from_mapping, from_yaml, to_yaml, with_overrides
from ray_itl.rounds.settings import FineTuneJobSettings
from ray_itl.sources.settings import PoolSettings, TargetSettings

ODD = [
    "1e5",
    ".5e5",
    "1_000",
    "0x1F",
    "2026-01-31",
    "12:30",
    "null",
    "~",
    "yes",
    "N",
    "tRUE",
    "nan",
    ".inf",
    "a: b",
    "- a",
]
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(ODD)
names = texts.filter(bool)
numbers = st.floats(allow_nan=False, allow_infinity=False)
positives = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3),
    max_leaves=8,
)
bounds = st.dictionaries(st.sampled_from(["min", "max"]), st.integers(0, 2**70) | st.floats(0, 0.99), min_size=1)
quotas = st.dictionaries(texts, st.dictionaries(texts | st.integers(), bounds, min_size=1, max_size=3), max_size=3)
selections = st.builds(
    SelectionSettings,
    n=st.integers(1),
    seed=st.integers(0, 2**63 - 1),
    min_gain=st.floats(0, allow_infinity=False),
    cost_column=st.none() | texts,
    budget=st.none() | positives | st.integers(1, 2**53),
    quotas=quotas,
    share=st.none() | st.floats(0, 1, exclude_min=True),
    exclude=st.none() | texts,
)
pools = st.builds(
    PoolSettings,
    path=st.none() | texts | st.lists(texts, max_size=3),
    id_column=names,
    columns=st.lists(texts, unique=True, max_size=3),
    features=st.just("random_fourier"),
    lengthscale=st.just("auto") | positives,
)
targets = st.builds(TargetSettings, task_column=texts, task_weights=st.dictionaries(texts, positives, max_size=3))


def is_harmless(written: CurationSettings) -> bool:
    """Whether no text looks like a URI with credentials, which are refused."""
    return "://" not in json.dumps(written.pool.path)


@settings(deadline=None)
@given(selections, pools, targets)
def test_settings_survive_yaml(selection: SelectionSettings, pool: PoolSettings, target: TargetSettings) -> None:
    pool.path = "p" if pool.path is None else pool.path
    target.path = "t"
    written = CurationSettings(pool=pool, target=target, selection=selection)
    text = to_yaml(written)
    if is_harmless(written):
        read = from_yaml(text, CurationSettings)
        assert read == written
        assert to_yaml(read) == text


@settings(deadline=None)
@given(anything)
@example({"a": [1, {"b": "1e5"}], 3: None})
@example(["\x85", {"\u2028": "a\u2029b"}])
def test_values_of_any_type_survive_yaml_that_is_laid_out_as_before(value: Any) -> None:
    """As the run directories that there are, whose config.yaml OmegaConf wrote, and which Hydra replays."""
    written = FineTuneJobSettings()
    written.model.options = {"value": value}
    text = to_yaml(written)
    assert from_yaml(text, FineTuneJobSettings) == written
    if "$" not in text and "???" not in text:
        read = OmegaConf.create(text)
        assert OmegaConf.to_container(read)["model"]["options"] == {"value": value}  # pyright: ignore
        if not re.search(r"\\[NLP]", text):  # these OmegaConf loses
            assert OmegaConf.to_yaml(read) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "they are a list"),
        ("a: [", "cannot be read"),
        ("run: {dir: a, dir: b}", "duplicate key dir"),
        ("run: !!python/object:os.system {}", "cannot be read"),
        ("run: {dirr: a}", r"there is no option run\.dirr: did you mean run\.dir\?"),
        ("run: a", r"run='a' cannot be used: it is a group of options, like {dir: \.\.\.}"),
        ("selection: {n: many}", r"selection\.n='many' cannot be used: give a whole number"),
        ("selection: {n: 2.5}", r"selection\.n=2\.5 cannot be used: give a whole number"),
        ("selection: {n: true}", r"selection\.n=True"),
        ("selection: {n: 0}", r"selection\.n=0 cannot be used: give a whole number of at least 1"),
        ("selection: {n: null}", r"selection\.n=None"),
        ("selection: {budget: much}", r"selection\.budget='much' cannot be used: give a number"),
        ("selection: {replacement: perhaps}", r"selection\.replacement='perhaps' cannot be used: give true or false"),
        ("selection: {quotas: [a]}", r"selection\.quotas=\['a'\] cannot be used: give a mapping"),
        ("pool: {columns: a}", r"pool\.columns='a' cannot be used: give a list, like \[a,b\]"),
        ("pool: {dtype: [a]}", r"pool\.dtype=\['a'\] cannot be used: give a text"),
        ("target: {task_weights: {a: b}}", r"target\.task_weights\.a='b'"),
        ("run: {dir: 's3://AKIA:secret@bucket/pool'}", r"run\.dir holds credentials"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_yaml(text, CurationSettings)
    assert "AKIA" not in str(caught.value)


def test_values_become_those_of_the_declared_types() -> None:
    read = from_yaml("selection: {n: '5', budget: 7, replacement: 'yes'}\nstate: {tick: 20260131}", CurationSettings)
    assert (read.selection.n, read.selection.budget, read.selection.replacement) == (5, 7.0, True)
    assert isinstance(read.selection.budget, float)
    assert read.state.tick == "20260131"
    assert from_yaml("", CurationSettings) == CurationSettings()


def test_numbers_of_numpy_are_written_as_plain_ones() -> None:
    quotas = {"lang": {np.str_("de"): {"min": np.int64(3)}}}
    made = from_mapping({"selection": {"budget": np.float64(3.5), "quotas": quotas}}, CurationSettings)
    assert "de:\n        min: 3\n" in to_yaml(made)
    made.evaluation.classes = [object()]
    with pytest.raises(ConfigError, match=r"evaluation\.classes cannot hold values of type object"):
        to_yaml(made)


def test_overrides_are_checked_and_added_to_mappings() -> None:
    base = FineTuneJobSettings()
    base.model.options = {"hidden": [64], "classes": 3}
    made = with_overrides(base, {"model.options": {"classes": 4}, "acquisition.name": "vtl", "rounds": {"batch": 3}})
    assert (made.model.options, made.acquisition.name) == ({"hidden": [64], "classes": 4}, "vtl")
    assert (made.rounds.batch, made.rounds.count) == (3, base.rounds.count)
    assert with_overrides(base, {"model.options.classes": 5}).model.options["classes"] == 5
    assert with_overrides(base, {"cluster.address": None}) == base
    assert base.model.options == {"hidden": [64], "classes": 3}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"acquisition.nam": "vtl"}, r"no option acquisition\.nam: did you mean acquisition\.name\?"),
        ({"acquisition.name.x": "vtl"}, r"no option acquisition\.name\.x"),
        ({"nowhere.name": "vtl"}, r"no option nowhere\.name"),
        ({"rounds.batch": "many"}, r"rounds\.batch='many'"),
        ({"rounds.batch": 0}, r"rounds\.batch=0"),
        ({3: 0}, "no option 3"),
    ],
)
def test_overrides_that_cannot_be(overrides: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_overrides(FineTuneJobSettings(), overrides)
