"""Whatever is written after a job's name, composing its options gives settings or a clear refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from ray_itl.cli.arguments import readable_by_hydra
from ray_itl.cli.config import launch, to_settings
from ray_itl.cli.guard import guarded
from ray_itl.curation.settings import CurationSettings
from ray_itl.embedding.settings import EmbedJobSettings
from ray_itl.options.text import from_yaml, to_yaml
from ray_itl.rounds.settings import FineTuneJobSettings
from ray_itl.verification.settings import VerifySettings
from tests.cli.test_config import option_names
from tests.jobs.helpers import compose_job, load_job

SCHEMAS = {
    "curate": CurationSettings,
    "verify": VerifySettings,
    "embed": EmbedJobSettings,
    "finetune": FineTuneJobSettings,
}
OPTIONS = {job: option_names(schema) for job, schema in SCHEMAS.items()}
PIECES = [
    *(
        "1",
        "-1",
        "0",
        "1e309",
        "-1e-400",
        "nan",
        "inf",
        "9" * 400,
        "0x10",
        "1_000",
        "true",
        "null",
        '"',
        "'",
        "\\",
        "\\n",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        ",",
        ":",
        "=",
        "@",
        "~",
        "+",
        " ",
        "#",
        "%",
        "$",
        "${",
        "${pool.path}",
        "${oc.env:HOME}",
    ),
    *(
        "${run}",
        "${.}",
        "${..}",
        "${oc.create:{a:1}}",
        "${oc.decode:1}",
        "range(0,9)",
        "choice(a,b)",
        "glob(*)",
        "int(a)",
    ),
    *(
        "extend_list(1)",
        "s3://",
        "s3://u:p@b/x",
        "../..",
        "/",
        "???",
        "!!python/object:x",
        "\u202e",
        "\x00",
        "é",
        "\U0001f600",
    ),
    *(
        "itl",
        "auto",
        "id",
        "embedding",
        "float32",
        "a:b",
        "{a: {b: [1]}}",
        "{größe: {'ü: x': [é, \"a\"]}}",
        "{null: {max: 1}, nan: {max: 1}}",
        "[a,a]",
        "pool.path",
        "acquisition",
        "hydra",
    ),
]
values = st.one_of(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), st.text(max_size=8))


@pytest.fixture(scope="module", autouse=True)
def _jobs_are_known() -> Iterator[None]:
    for job in SCHEMAS:
        load_job(job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYDRA_FULL_ERROR", "0")
        yield


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a job and some words after it, most of which name one of its options."""
    job = draw(st.sampled_from(sorted(SCHEMAS)))
    names = st.sampled_from([*OPTIONS[job], "acquisition", "experiment", "hydra.run.dir", "pool", "", "x.y", "a@b"])
    word = st.builds("{}{}={}".format, st.sampled_from(["", "", "", "+", "++", "~"]), names, values)
    return job, draw(st.lists(st.one_of(word, word, word, values), min_size=1, max_size=3))


def refused_or_sound(job: str, words: list[str]) -> bool:
    """Whether the words are refused with exit code 2 and one line; else their settings survive config.yaml."""
    made, shown, code = [], StringIO(), None

    @guarded
    def settle(config: DictConfig) -> None:
        made.append(to_settings(config, SCHEMAS[job]))

    try:
        with redirect_stderr(shown):
            launch(lambda: settle(composed(job, words)))
    except SystemExit as end:
        code = end.code
    if code is not None:
        assert code == 2, shown.getvalue()
        assert re.fullmatch("error: .+\n", shown.getvalue())
        return True
    text = to_yaml(made[0])
    assert to_yaml(from_yaml(text, SCHEMAS[job])) == text
    return False


def composed(job: str, words: list[str]) -> DictConfig:
    try:
        return compose_job(job, *map(readable_by_hydra, words))
    finally:
        GlobalHydra.instance().clear()


@settings(max_examples=80)
@given(command_lines())
def test_random_options(line: tuple[str, list[str]]) -> None:
    refused_or_sound(*line)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # the time to shrink what it finds included
@settings(max_examples=10_000, derandomize=False)
@given(command_lines())
def test_a_lot_of_random_options(line: tuple[str, list[str]]) -> None:
    refused_or_sound(*line)


def test_good_options_are_not_refused() -> None:
    assert not refused_or_sound("curate", ["pool.path=p", "target.path=t", "selection.n=3"])
    assert refused_or_sound("curate", ["selection.n=0"])
