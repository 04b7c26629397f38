from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from ray_itl.cli.hydra_words import readable_by_hydra


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
    for argument in ("acquisition=vtl", "acquisition={name: vtl}", "acquisition="):
        assert readable_by_hydra(argument) == argument


def test_other_options_are_hydras_own():
    for argument in ("selection.n=5", "pool.filter=null", "pool.columns=[a,b]", "--help", "pool.filter='a = 1'"):
        assert readable_by_hydra(argument) == argument
