"""`ray-itl`: one screen of commands, at once; unknown ones are named with the nearest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ray_itl.cli.main import COMMANDS, main
from tests.jobs.helpers import ROOT

HEAVY = {"torch", "ray", "hydra", "omegaconf", "numpy", "pyarrow"}


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/ray-itl", *words])
    main()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_is_one_screen(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *words)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 110
    assert "Usage: ray-itl COMMAND" in "\n".join(lines)
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)


@pytest.mark.parametrize("word", ["--help", "--version", "curat"])
def test_without_a_command_nothing_heavy_is_loaded(word: str) -> None:
    code = f"import sys\nsys.argv = ['ray-itl', {word!r}]\nfrom ray_itl.cli.main import main\ntry: main()\nfinally: "
    code += "print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    loaded = set(ran.stdout.splitlines()[-1].split())
    assert "ray_itl" in loaded
    assert not loaded & HEAVY


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--version")
    name, version = capsys.readouterr().out.split()
    assert name == "ray_itl"
    assert version[0].isdigit()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("curat", "there is no command curat: did you mean curate?"),
        ("fine-tune", "there is no command fine-tune: did you mean finetune?"),
        ("x", "there is no command x: use one of curate, embed, finetune, verify, prepare"),
        ("pool.path=a", "there is no command pool.path=a: use one of "),
        ("a\nb\x1b[2J", r"there is no command 'a\nb\x1b[2J': use one of "),
    ],
)
def test_an_unknown_command_is_one_line(
    word: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, word)
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert shown.err.startswith(f"error: {message}")


def test_options_go_to_the_command_and_unknown_ones_are_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "verify", "max_step=3")
    assert ended.value.code == 2
    assert "there is no option max_step: did you mean max_steps?" in capsys.readouterr().err
