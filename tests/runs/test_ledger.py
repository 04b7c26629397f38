import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import RunDirectoryError
from ray_itl.runs.ledger import Ledger, LedgerEntry
from tests.sources.helpers import names_in


def picks(start: int, stop: int) -> list[LedgerEntry]:
    return [LedgerEntry(step, 100 - step, f"row {step}", 1 / (step + 3), 2.0 + step) for step in range(start, stop)]


@pytest.fixture
def filled(tmp_path):
    """A run directory with picks 0-2, 3, and 4-6 in three blocks."""
    ledger = Ledger(tmp_path)
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        ledger.append(picks(start, stop))
    return tmp_path


def block(directory, number):
    return directory / "ledger" / f"block-{number:08d}.json"


def test_new_ledger_is_empty(tmp_path):
    assert Ledger(tmp_path).read() == []
    assert names_in(tmp_path) == []


def test_read_returns_everything_in_order(filled):
    assert Ledger(filled).read() == picks(0, 7)
    assert names_in(filled / "ledger") == [f"block-{number:08d}.json" for number in range(3)]


def test_another_process_continues(filled):
    Ledger(filled).append(picks(7, 9))
    assert Ledger(filled).read() == picks(0, 9)


def test_empty_block_writes_nothing(tmp_path):
    Ledger(tmp_path).append([])
    assert Ledger(tmp_path).read() == []
    assert names_in(tmp_path) == []


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite, st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])))
def test_numbers_and_ids_survive_exactly(tmp_path_factory, gain, cost, row_id):
    directory = tmp_path_factory.mktemp("run")
    entry = LedgerEntry(0, 10**12, row_id, gain, cost)
    Ledger(directory).append([entry])
    assert repr(Ledger(directory).read()) == repr([entry])


def test_numpy_scalars_become_plain_numbers(tmp_path):
    entry = LedgerEntry(np.int64(0), np.int64(5), np.int64(7), np.float64(0.1))  # type: ignore[arg-type]
    Ledger(tmp_path).append([entry])
    assert repr(Ledger(tmp_path).read()) == repr([LedgerEntry(0, 5, 7, 0.1, 1.0)])


def test_leftovers_of_a_crash_are_ignored(filled):
    folder = filled / "ledger"
    (folder / ".block-00000003.json.12ab34cd.tmp").write_bytes(b'{"half":')
    (folder / "block-00000003.json.tmp").write_bytes(b"")
    ledger = Ledger(filled)
    assert ledger.read() == picks(0, 7)
    ledger.append(picks(7, 8))
    assert Ledger(filled).read() == picks(0, 8)


def test_crash_while_writing_loses_only_that_block(filled, monkeypatch):
    ledger = Ledger(filled)

    def crash(_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(RunDirectoryError, match="no space left"):
            ledger.append(picks(7, 9))
    assert Ledger(filled).read() == picks(0, 7)
    ledger.append(picks(7, 9))
    assert Ledger(filled).read() == picks(0, 9)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"format": 1, "sha256": "", "picks": 3}'])
def test_corrupt_file_is_named(filled, content):
    block(filled, 1).write_bytes(content)
    with pytest.raises(
        RunDirectoryError, match=r"block-00000001.json (cannot be read|is damaged).*delete it and every"
    ):
        Ledger(filled).read()


def test_changed_digit_is_noticed(filled):
    path = block(filled, 2)
    path.write_text(path.read_text().replace('"position": 96', '"position": 86'))
    with pytest.raises(RunDirectoryError, match=r"block-00000002.json is damaged: .*checksum"):
        Ledger(filled).read()


def test_other_format_is_named(filled):
    path = block(filled, 2)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    with pytest.raises(RunDirectoryError, match=r"block-00000002.json has format 9"):
        Ledger(filled).read()


@pytest.mark.parametrize("number", [0, 1])
def test_missing_block_is_named(filled, number):
    block(filled, number).unlink()
    with pytest.raises(
        RunDirectoryError, match=rf"block-0000000{number}.json is missing although block-0000000{number + 1}"
    ):
        Ledger(filled).read()


def test_gap_in_steps_is_named(filled):
    block(filled, 2).rename(block(filled, 1))
    with pytest.raises(
        RunDirectoryError, match=r"block-00000001.json does not continue .*step 4 comes where step 3 is due"
    ):
        Ledger(filled).read()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (picks(8, 9), "step 8 comes where step 7 is due"),
        (picks(6, 7), "step 6 comes where step 7 is due"),
        ([LedgerEntry(7, 1, 1, 0.5), LedgerEntry(9, 2, 2, 0.5)], "step 9 comes where step 8 is due"),
        ([LedgerEntry(7, 100, 1, 0.5)], "position 100 is picked a second time at step 7"),
        ([LedgerEntry(7, 1, 1, 0.5), LedgerEntry(8, 1, 2, 0.5)], "position 1 is picked a second time at step 8"),
        ([LedgerEntry(7, 1, 1, float("nan"))], "step 7 has gain nan"),
        ([LedgerEntry(7, 1, 1, 0.5, float("inf"))], "cost inf"),
    ],
)
def test_block_that_does_not_continue_is_refused(filled, entries, message):
    ledger = Ledger(filled)
    with pytest.raises(ValueError, match=message):
        ledger.append(entries)
    assert Ledger(filled).read() == picks(0, 7)


def test_two_writers_are_noticed(filled):
    first, second = Ledger(filled), Ledger(filled)
    assert first.read() == second.read()
    first.append(picks(7, 8))
    with pytest.raises(RunDirectoryError, match="written by another process"):
        second.append(picks(7, 9))
    assert Ledger(filled).read() == picks(0, 8)


def test_missing_run_directory(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"cannot create .*check that the run directory exists"):
        Ledger(tmp_path / "nowhere").append(picks(0, 1))
