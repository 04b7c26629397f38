"""Options are declared once: they check themselves, and a run's identity has all of them that do not say otherwise."""

import inspect
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import numpy as np
import pytest
import torch

from benchmarks.settings import BenchmarkSettings
from ray_itl import select
from ray_itl.curation.identity import ASKED
from ray_itl.curation.settings import AcquisitionSettings, CurationSettings, SelectionSettings
from ray_itl.embedding.settings import EmbedJobSettings
from ray_itl.errors import ConfigError, RunDirectoryError
from ray_itl.experiments.preparation import PrepareSettings
from ray_itl.options.checks import one_of, positive, whole
from ray_itl.options.declare import Described, Options, deciding, described, option
from ray_itl.options.help import help_text
from ray_itl.rounds.settings import FineTuneJobSettings, FineTuneSettings
from ray_itl.runs.directory import RunDirectory
from ray_itl.verification.settings import VerifySettings
from tests.helpers import Files
from tests.pinned.commands import FILES

SCHEMAS = [
    CurationSettings,
    EmbedJobSettings,
    FineTuneJobSettings,
    PrepareSettings,
    VerifySettings,
    BenchmarkSettings,
]


@dataclass
class Fruit(Options, group="fruit"):
    """What grows."""

    kind: str = option("apple", "What it is.", one_of("apple", "pear"))
    weight: float = option(1.0, "Of one.", positive)
    most: float | None = option(None, "Of all. null: any.", positive, decides=False)
    seeds: int = option(5, "In one.", whole(0))
    names: list[str] = option([], "Whatever one likes.")


@dataclass
class Basket(Options):
    """What is carried."""

    fruit: Fruit = field(default_factory=Fruit)
    handle: bool = option(True, "Whether it has one.")


@dataclass
class Further(SelectionSettings):
    """Somebody adds an option and thinks no further."""

    mood: str = "calm"


@dataclass
class FurtherSettings(CurationSettings):
    """The same, as a schema."""

    selection: SelectionSettings = field(default_factory=Further)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "plum"}, r"fruit\.kind='plum' cannot be used: use one of apple, pear"),
        ({"weight": None}, r"fruit\.weight=None cannot be used: give a positive number"),
        ({"weight": True}, r"fruit\.weight=True"),
        ({"most": 0}, r"fruit\.most=0 cannot be used"),
        ({"seeds": 1.0}, r"fruit\.seeds=1\.0 cannot be used: give a whole number of at least 0"),
    ],
)
def test_a_group_checks_itself(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fruit(**values)


def test_null_passes_where_the_type_has_it_and_lists_are_of_each_object() -> None:
    one, other = Fruit(most=None), Fruit()
    one.names.append("a")
    assert other.names == []


def test_a_whole_number_is_the_float_that_is_declared() -> None:
    whole_number = Basket(Fruit(weight=2, most=3))
    assert deciding(whole_number) == deciding(Basket(Fruit(weight=2.0, most=3.0)))
    assert deciding(whole_number)["fruit.weight"] == "2.0"


def test_options_decide_unless_they_say_that_they_do_not() -> None:
    assert set(deciding(Basket())) == {"fruit.kind", "fruit.weight", "fruit.seeds", "fruit.names", "handle"}
    assert deciding(FurtherSettings())["selection.mood"] == "'calm'"


def test_an_option_that_says_nothing_makes_a_run_refuse_to_resume(tmp_path: Path) -> None:
    """Both the runs that were written before it was added, and those of another value."""
    files = Files(tmp_path)
    before = files.settings()
    files.run(before)
    values = {name: value for name, value in vars(before).items() if name != "selection"}
    added = FurtherSettings(**values, selection=Further(before.selection.n))
    with pytest.raises(RunDirectoryError, match=r"changed: selection\.mood"):
        files.run(added)
    fresh = replace(added, run=replace(added.run, dir=str(tmp_path / "fresh")))
    files.run(fresh)
    files.run(fresh)
    with pytest.raises(RunDirectoryError, match=r"changed: selection\.mood"):
        files.run(replace(fresh, selection=Further(before.selection.n, mood="wild")))


OF_A_FILE = "contents of pool.prior_covariance"


def test_what_decided_runs_that_there_are_still_does_and_nothing_else() -> None:
    """An option more makes them refuse to resume, one less resumes them with other picks."""
    schemas: list[tuple[str, type, set[str]]] = [
        ("selection", CurationSettings, {"pool", "targets", "known rows", "limits", OF_A_FILE, *ASKED}),
        ("tuning", FineTuneSettings, {"pool", "target", "heldout", "contents of model.checkpoint"}),
        ("embedding", EmbedJobSettings, {"pool", "weights of the model"}),
    ]
    for folder, schema, data in schemas:
        pinned = json.loads((FILES / folder / "manifest.json").read_text())["identity"]
        assert set(deciding(schema())) == set(pinned) - data, folder


def test_a_budget_is_the_same_with_and_without_its_zero(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "run"))
    run.begin({"selection.budget": "500", "selection.n": "10"}, {}, "")
    assert run.changes({"selection.budget": "500.0", "selection.n": "10"}) == []
    assert run.changes({"selection.budget": "500.5", "selection.n": "100"}) == ["selection.budget", "selection.n"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_option_says_what_it_means(schema: type) -> None:
    options = list(described(schema))
    assert len({each.name for each in options}) == len(options)
    assert [each.name for each in options if not each.doc and not each.choices] == []
    assert [each.name for each in options if "." in each.name and not each.group_doc] == []


@pytest.mark.parametrize("schema", SCHEMAS)
def test_help_fits_a_terminal_and_has_every_default(schema: type) -> None:
    lines = help_text(schema).splitlines()
    assert max(map(len, lines)) <= 120
    heads = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]
    assert [head.partition("=")[0] for head in heads] == [
        each.spelled or each.name for each in sorted_as_in_help(schema)
    ]


def sorted_as_in_help(schema: type) -> list[Described]:
    options = list(described(schema))
    groups = list(dict.fromkeys(each.name.rpartition(".")[0] for each in options))
    return sorted(options, key=lambda each: (groups.index(each.name.rpartition(".")[0]), each.inherited))


def test_help_of_a_small_schema() -> None:
    at = " " * 37
    assert help_text(Basket).splitlines() == [
        "fruit: What grows.",
        f"{'  fruit.kind=apple':<37}apple | pear. What it is.",
        f"{'  fruit.weight=1.0':<37}Of one.",
        f"{'  fruit.most=null':<37}Of all. null: any.",
        f"{'  fruit.seeds=5':<37}In one.",
        f"{'  fruit.names=[]':<37}Whatever one likes.",
        "",
        f"{'  handle=true':<37}Whether it has one.",
    ]
    assert f"  acquisition.target_noise_variance=null\n{at}Noise on" in help_text(CurationSettings)


def option_of(argument: str) -> Described:
    """Return the option that an argument of `select` stands for.

    Such as `n` for selection.n, `avoid_weight` for avoid.weight, `pool` for pool.path.
    """
    options = list(described(CurationSettings))
    by_last_word = [each for each in options if each.name.rpartition(".")[2] == argument]
    by_both_words = [each for each in options if each.name.replace(".", "_", 1) == argument]
    by_group = [each for each in options if each.name in (f"{argument}.path", f"{argument}.name")]
    return [*by_both_words, *by_last_word, *by_group][0]


OTHERS = {"quiet", "heldout_options"}
"""Arguments that are no option: the second holds options of a group."""
ARGUMENTS = {name: each for name, each in inspect.signature(select).parameters.items() if name not in OTHERS}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_arguments_of_select_are_options_with_their_defaults(argument: str) -> None:
    each, default = option_of(argument), ARGUMENTS[argument].default
    if default is not inspect.Parameter.empty:
        empty = {"list": (), "dict": None}.get(type(each.default).__name__, each.default)
        # A library call is no place to start a Ray cluster unasked.
        assert default == (0 if argument == "num_shards" else empty)
    said = get_args(get_type_hints(select)[argument])
    if each.choices:
        assert said == each.choices


def test_arguments_stand_for_the_options_one_expects() -> None:
    names = {argument: option_of(argument).name for argument in ARGUMENTS}
    assert len(set(names.values())) == len(names)
    assert (names["pool"], names["avoid_weight"], names["run_dir"]) == ("pool.path", "avoid.weight", "run.dir")
    assert (names["acquisition"], names["id_column"]) == ("acquisition.name", "pool.id_column")


NUMBERS = [np.int64(7), np.array(7), np.uint8(7), torch.tensor(7)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_numbers_of_other_libraries_are_pythons(number: Any) -> None:
    settings = SelectionSettings(n=number, budget=number, cost_column="cost")
    assert (settings.n, type(settings.n)) == (7, int)
    assert (settings.budget, type(settings.budget)) == (7.0, float)


def test_the_mean_of_float32_is_a_noise_variance() -> None:
    noise: Any = np.full(3, 0.1, dtype=np.float32).mean()
    assert AcquisitionSettings(noise_variance=noise) == AcquisitionSettings(noise_variance=float(noise))
    yes, zero, broken = cast(Any, np.True_), cast(Any, np.int64(0)), cast(Any, np.float64(2.5))
    assert SelectionSettings(explain=yes).explain is True
    with pytest.raises(ConfigError, match=r"^selection\.n=0 cannot be used: give a whole number of at least 1, or a "):
        SelectionSettings(n=zero)
    with pytest.raises(ConfigError, match=r"^selection\.n=2\.5 cannot be used"):
        SelectionSettings(n=broken)
