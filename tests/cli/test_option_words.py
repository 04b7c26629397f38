"""Hydra's refusals in one sentence that names the option and the remedy."""

import pytest

from ray_itl.cli.hydra_words import in_words, no_option, unreadable

KNOWN = ["run.dir", "selection.n", "selection.min_gain", "pool.path"]
CHOICES = "In 'a': Could not find 'rule/b'\n\nAvailable options in 'rule':\n\tc\n\td\nConfig search path:\n\te"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("selection.mingain", "there is no option selection.mingain: did you mean selection.min_gain? --help lists"),
        ("colour", "there is no option colour: --help lists all of them"),
    ],
)
def test_the_nearest_option_is_offered(name: str, words: str) -> None:
    assert no_option(name, KNOWN).startswith(words)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Could not override 'run.dirr'.\nTo append use +run.dirr=a\nKey 'dirr' not in 'R'\n", "did you mean run.dir?"),
        ("Could not override 'pool'.\nKey 'pth' not in 'P'\n    full_key: pool.pth\n", "no option pool.pth: did you"),
        ("Error merging override pool.x=1\nValue '1' is no Y\n full_key: n", "pool.x=1 cannot be used: Value '1'"),
        (CHOICES, "rule=b cannot be used: use one of c, d"),
        ("Error merging override odd", "Error merging override odd"),
        ("Cannot find primary config 'x'.\nConfig search path:\n\te", "Cannot find primary config 'x'.\n"),
    ],
)  # fmt: skip
def test_hydras_messages(message: str, words: str) -> None:
    said = in_words(message, KNOWN)
    assert words in said
    assert "search path" not in said
    assert "full_key" not in said


def test_words_that_are_no_override() -> None:
    assert unreadable("run", "Error parsing override 'run'\nmissing EQUAL") == "run cannot be used: write name=value"
    said = unreadable("a=b=c", "mismatched input '='\nSee https://hydra.cc/docs")
    assert said.startswith("a=b=c cannot be read (mismatched input '='): put what has")
    assert "https" not in said
    assert "backslash" not in said
