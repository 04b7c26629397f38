"""Names and values beyond ASCII, null and words in quotes reach the options as they were typed, from wherever."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ray_itl.cli.arguments import readable_by_hydra
from ray_itl.cli.config import launch, register_schemas, to_settings
from ray_itl.cli.names import names_in_files, with_names, words_with_names
from ray_itl.curation.settings import CurationSettings, SelectionSettings
from ray_itl.errors import ConfigError
from ray_itl.options.text import from_mapping, to_yaml
from tests.jobs.helpers import compose_job


def _read(argument: str) -> Any:
    return with_names(OverridesParser.create().parse_override(readable_by_hydra(argument)).value())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("pool.path=/größe/p.parquet", "/größe/p.parquet"),
        ('pool.path="/größe/p.parquet"', "/größe/p.parquet"),
        ("pool.path='/größe/p.parquet'", "/größe/p.parquet"),
        ("pool.path=/größe/*/lang=en (1).parquet", "/größe/*/lang=en (1).parquet"),
        ("pool.path=/größe\\,kleine.parquet", "/größe,kleine.parquet"),
        ("pool.path=x\\größe", "x\\größe"),
        ("pool.path=\N{GRINNING FACE} 中文", "\N{GRINNING FACE} 中文"),
        ("pool.path=${run.dir}/größe", "${run.dir}/größe"),
        ("pool.path=[größe,b c,'ü, x']", ["größe", "b c", "ü, x"]),
        ("pool.columns=[größe, 1, null, true]", ["größe", 1, None, True]),
        ("a={sprache: {größe: {max: 2}}}", {"sprache": {"größe": {"max": 2}}}),
        ('a={sprache: {"größe": {max: 2}}}', {"sprache": {"größe": {"max": 2}}}),
        ("a={sprache: {gr\\ö\\ße: {max: 2}}}", {"sprache": {"größe": {"max": 2}}}),
        ("a={große\\: b: 0.5, c: 'ü: {x}'}", {"große: b": 0.5, "c": "ü: {x}"}),
        ("a={it's größe: it's größe}", {"it's größe": "it's größe"}),
        ("a={größe: ${b.c}}", {"größe": "${b.c}"}),
        ("a={null: {max: 1}, b: null}", {None: {"max": 1}, "b": None}),
        ('a={"null": 1, "true": 2, "1.5": 3, "*": 4, "": 5}', {"null": 1, "true": 2, "1.5": 3, "*": 4, "": 5}),
        ('a={\'de\': {"a\\"b": 1}}', {"de": {'a"b': 1}}),
        ("a={true: 1, 2024: 2, no: 3, 2024-01-02: 4}", {True: 1, 2024: 2, "no": 3, "2024-01-02": 4}),
        ("a={ü: [{é: 1}, {é: 2}], b: {é: 3}}", {"ü": [{"é": 1}, {"é": 2}], "b": {"é": 3}}),
    ],
)
def test_a_value_is_what_was_typed(argument: str, value: Any) -> None:
    found = _read(argument)
    assert found == value
    assert list(map(type, found)) == list(map(type, value))


_names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=6).filter(
    lambda name: "\\" not in name
)


@given(st.dictionaries(_names, st.dictionaries(_names, st.integers(), min_size=1, max_size=2), min_size=1, max_size=3))
def test_any_names_in_quotes_are_these_names(values: dict[str, dict[str, int]]) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '\\"') + '"'

    inside = [
        f"{quoted(name)}: {{{', '.join(f'{quoted(key)}: {number}' for key, number in inner.items())}}}"
        for name, inner in values.items()
    ]
    assert _read(f"a={{{', '.join(inside)}}}") == values


@given(st.text(max_size=12).filter(lambda text: "\x00" not in text))
def test_any_text_is_read_or_left_to_hydra(text: str) -> None:
    argument = f"a={text}"
    try:
        written = readable_by_hydra(argument)
    except ConfigError:  # a name that stands twice
        return
    try:
        OverridesParser.create().parse_override(written)
    except HydraException:
        assert written == argument


@pytest.mark.parametrize("argument", ["a={größe: {max: 2}", "a={größe: }", "a=b=c", "größe", "a=it's", "~größe"])
def test_what_means_nothing_stays_as_it_is(argument: str) -> None:
    assert readable_by_hydra(argument) == argument


@pytest.mark.parametrize("value", ["{de: 1, de: 2}", "{1: 1, 1.0: 2}", '{größe: 1, "größe": 2}', "{a: [{b: 1, b: 1}]}"])
def test_a_name_that_stands_twice_is_refused(value: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["curate", f"selection.quotas={value}"])
    with pytest.raises(SystemExit) as end:
        launch(lambda: None)
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"error: selection.quotas={value} cannot be used: it names something twice within one {{ }}: keep one\n"
    )


def test_options_beyond_ascii_are_composed_and_missed_by_their_names(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    typed = [
        "pool.path=/größe",
        "target.path=t",
        "selection.quotas={c: {größe: {max: 2}}}",
        "selection.quotas.c.größe.max=3",
    ]
    settings = to_settings(compose_job("curate", *map(readable_by_hydra, typed)), CurationSettings)
    assert settings.pool.path == "/größe"
    assert settings.selection.quotas == {"c": {"größe": {"max": 3}}}
    monkeypatch.setattr(sys, "argv", ["curate"])
    for typed in ("pool.größe=1", "größe.x=1"):
        with pytest.raises(SystemExit):
            launch(lambda typed=typed: compose_job("curate", readable_by_hydra(typed)) and None)
        GlobalHydra.instance().clear()
        assert f"there is no option {typed[:-2]}" in capsys.readouterr().err


def _composed(folder: Path, name: str, *typed: str) -> CurationSettings:
    with names_in_files(), initialize_config_dir(str(folder), version_base="1.3"):
        return to_settings(compose(name, list(map(readable_by_hydra, typed))), CurationSettings)


def test_a_file_of_options_has_the_same_names(tmp_path: Path) -> None:
    register_schemas(curate_schema=CurationSettings)
    quotas = {"c": {None: {"max": 1}, "null": {"max": 2}, "größe": {"min": 1}, True: {"max": 3}, b"\xff": {"max": 4}}}
    settings = CurationSettings(selection=SelectionSettings(quotas=quotas))
    (tmp_path / "größe.yaml").write_text(to_yaml(settings), "utf-8")
    assert _composed(tmp_path, "größe") == settings
    typed = ['selection.quotas={c: {null: {max: 5}, größe: {min: 6}, "null": {max: 7}}}']
    changed = _composed(tmp_path, "größe", *typed).selection.quotas["c"]
    assert changed[None] == {"max": 5}
    assert changed["größe"] == {"min": 6}
    assert changed["null"] == {"max": 7}


def test_names_that_yaml_reads_as_one_are_refused() -> None:
    with names_in_files(), pytest.raises(ConfigError, match="no, off: YAML reads two of these names as the same"):
        OmegaConf.create("{a: {no: 1, off: 2}}")
    with names_in_files():
        assert with_names(OmegaConf.to_container(OmegaConf.create("{null: 1, 'null': 2}"))) == {None: 1, "null": 2}


def test_bytes_that_are_no_text_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"pool\.path='caf\\udce9' cannot be used: it is no UTF-8"):
        from_mapping({"pool": {"path": "caf\udce9"}}, CurationSettings)


def test_hydras_messages_have_the_names() -> None:
    assert words_with_names(f"no {readable_by_hydra('größe=1')[:-2]} here") == "no größe here"
