"""What counts as new, changed, moved or vanished: contents decide, not names or times."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.sources.manifest import FileEntry, Manifest
from ray_itl.sources.tables.version import TableVersion
from ray_itl.ticks.changes import SeenFiles, changes_of_table, changes_table, compare


def files(**contents: str) -> Manifest:
    found = [FileEntry(path, len(content), 1, content, (len(content),)) for path, content in sorted(contents.items())]
    return Manifest("", "/pool", ("/pool",), tuple(found), "id", "int", "embedding", "float32", 2)


def seen(*ticks: Manifest, on_changed: str = "as_new") -> SeenFiles:
    """What was seen after ticks over these pools."""
    history = []
    for pool in ticks:
        history.append(list(compare(pool, SeenFiles.after(history), on_changed).files))
    return SeenFiles.after(history)


CASES = {
    "nothing": (files(a="A"), files(a="A"), {}, []),
    "a new file": (files(a="A"), files(a="A", b="BB"), {"b": "new"}, ["b"]),
    "renamed": (files(a="A"), files(b="A"), {"a": "vanished", "b": "moved"}, []),
    "copied": (files(a="A"), files(a="A", b="A"), {"b": "moved"}, []),
    "changed": (files(a="A", b="B"), files(a="C", b="B"), {"a": "changed"}, ["a"]),
    "changed to what another holds": (files(a="A", b="B"), files(a="B", b="B"), {"a": "changed"}, []),
    "vanished": (files(a="A", b="B"), files(b="B"), {"a": "vanished"}, []),
    "rotated": (files(a="A"), files(a="C", b="A"), {"a": "new", "b": "moved"}, ["a"]),
    "swapped": (files(a="A", b="B"), files(a="B", b="A"), {"a": "moved", "b": "moved"}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_happened_to_each_file(case: str) -> None:
    before, after, fates, fresh = CASES[case]
    changes = compare(after, seen(before), "as_new")
    assert {file.path: file.fate for file in changes.files} == fates
    assert [file.path for file in changes.new_files] == fresh
    assert changes.num_rows == sum(file.num_rows for file in after.files if file.path in fresh)
    again = compare(after, seen(before, after), "refuse")
    assert (again.files, again.new_files) == ([], [])


@pytest.mark.parametrize("case", CASES)
def test_only_lost_contents_are_refused(case: str) -> None:
    before, after, fates, _ = CASES[case]
    lost = {path for path, fate in fates.items() if fate == "changed" or (fate == "vanished" and case == "vanished")}
    if not lost:
        compare(after, seen(before), "refuse")
        return
    with pytest.raises(InputError, match=rf"no longer what they were \(\w+: {lost.pop()}\).*state\.on_changed=as_new"):
        compare(after, seen(before), "refuse")


def test_a_changed_file_may_count_as_seen() -> None:
    before, after = files(a="A", b="B"), files(a="C", b="B")
    changes = compare(after, seen(before), "as_seen")
    assert ([file.fate for file in changes.files], changes.new_files) == (["changed"], [])
    assert compare(after, seen(before, after, on_changed="as_seen"), "refuse").files == []


def test_what_vanished_and_comes_back_was_seen() -> None:
    a, none = files(a="A", b="B"), files(b="B")
    back = compare(a, seen(a, none), "refuse")
    assert ([file.fate for file in back.files], back.new_files) == (["moved"], [])


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from("ABCDEF"), min_size=1), min_size=1, max_size=6)
)
def test_every_content_is_fresh_exactly_once(pools: list[dict[str, str]]) -> None:
    history, fresh, there = [], [], set()
    for pool in pools:
        changes = compare(files(**pool), SeenFiles.after(history), "as_new")
        fresh += sorted({file.fingerprint for file in changes.new_files})
        there |= set(pool.values())
        history.append(list(changes.files))
    assert sorted(fresh) == sorted(there)
    assert dict(SeenFiles.after(history).files) == pools[-1]


def test_news_survive_their_table() -> None:
    changes = compare(files(a="B", b="BB"), seen(files(a="A")), "as_new").files
    assert changes_of_table(changes_table(changes)) == list(changes)
    assert changes_of_table(changes_table([])) == []


def test_files_of_a_table_may_vanish_and_others_beside_it_may_not() -> None:
    table = TableVersion("delta", "t", 2)
    before = files(**{"t/a": "A", "t/b": "B", "c": "C"})
    after = replace(files(**{"t/b": "B", "t/d": "DD", "c": "C"}), tables=(table,))
    changes = compare(after, seen(before), "refuse")
    assert {each.path: each.fate for each in changes.files} == {"t/a": "vanished", "t/d": "new"}
    assert [file.path for file in changes.new_files] == ["t/d"]
    with pytest.raises(InputError, match="vanished: c"):
        compare(replace(files(**{"t/b": "B"}), tables=(table,)), seen(before), "refuse")
    whole = replace(files(a="A"), tables=(replace(table, path="."),))
    assert compare(whole, seen(files(a="A", b="B")), "refuse").num_rows == 0


def test_of_a_file_that_has_not_settled_there_is_no_news() -> None:
    before = files(a="A", b="B")
    passed_over = replace(files(a="A"), unsettled=("b", "c"))
    assert compare(passed_over, seen(before), "refuse").files == []
    after = seen(before, passed_over)
    assert [each.fate for each in compare(files(a="A", b="B", c="CC"), after, "refuse").files] == ["new"]
