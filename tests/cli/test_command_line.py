from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from ray_itl.cli.arguments import readable_by_hydra
from ray_itl.cli.hydra_words import unknown_flag


@given(st.text(st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" ='\"\\<()"), min_size=1))
@example("lang = 'en' and tokens < 2048")
@example("a like '\\' or b = \"c\\")
@example("\"my col\" = 'x'")
@example("kept = true")
def test_hydra_reads_any_condition_as_it_was_typed(text):
    read = OverridesParser.create().parse_override(readable_by_hydra(f"pool.filter={text}")).value()
    plain = text.strip()
    quoted = len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "'\""
    assert read in (text, plain) or quoted or (read is None and plain.lower() == "null")


def test_a_rule_of_the_callers_own_is_a_name_and_no_file():
    assert readable_by_hydra("acquisition=a.b:Rule") == "acquisition.name=a.b:Rule"
    assert readable_by_hydra("encoder=sentence-transformers/all-MiniLM-L6-v2") == (
        "encoder.name=sentence-transformers/all-MiniLM-L6-v2"
    )
    assert readable_by_hydra("encoder=a.b:make") == "encoder.name=a.b:make"
    assert readable_by_hydra("encoder={name: a}") == "encoder={name: a}"
    for argument in ("acquisition=vtl", "acquisition={name: vtl}", "acquisition="):
        assert readable_by_hydra(argument) == argument


def test_other_options_are_hydras_own():
    for argument in ("selection.n=5", "pool.filter=null", "pool.columns=[a,b]", "--help", "pool.filter='a = 1'"):
        assert readable_by_hydra(argument) == argument


def test_a_flag_that_there_is_not_is_one_line():
    for argument in ("--selection.n=5", "--nosuch", "-n", "--n=5"):
        assert str(unknown_flag(["pool.path=a", argument])).startswith(
            f"{argument} cannot be used: options are written"
        )


def test_flags_of_hydra_are_let_through():
    flags = ["--help", "-h", "--cfg", "job", "-cn", "config", "--config-dir=runs/a", "--config-n", "x", "--", "a=-1"]
    assert unknown_flag(flags) is None
