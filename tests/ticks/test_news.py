"""What counts as new, changed, moved or vanished: contents decide, not names or times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_itl.errors import InputError
from ray_itl.sources.manifest import FileEntry
from ray_itl.ticks.changes import Seen, compare, news_of_table, news_table


def files(**contents: str) -> list[FileEntry]:
    return [FileEntry(path, len(content), 1, content, (len(content),)) for path, content in sorted(contents.items())]


def seen(*ticks: list[FileEntry], on_changed: str = "as_new") -> Seen:
    """What was seen after ticks over these pools."""
    past = []
    for pool in ticks:
        past.append(list(compare(pool, Seen.after(past), on_changed).files))
    return Seen.after(past)


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
    news = compare(after, seen(before), "as_new")
    assert {file.path: file.fate for file in news.files} == fates
    assert [file.path for file in news.fresh] == fresh
    assert news.num_rows == sum(file.num_rows for file in after if file.path in fresh)
    again = compare(after, seen(before, after), "refuse")
    assert (again.files, again.fresh) == ([], [])


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
    news = compare(after, seen(before), "as_seen")
    assert ([file.fate for file in news.files], news.fresh) == (["changed"], [])
    assert compare(after, seen(before, after, on_changed="as_seen"), "refuse").files == []


def test_what_vanished_and_comes_back_was_seen() -> None:
    a, none = files(a="A", b="B"), files(b="B")
    back = compare(a, seen(a, none), "refuse")
    assert ([file.fate for file in back.files], back.fresh) == (["moved"], [])


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from("ABCDEF"), min_size=1), min_size=1, max_size=6)
)
def test_every_content_is_fresh_exactly_once(pools: list[dict[str, str]]) -> None:
    past, fresh, there = [], [], set()
    for pool in pools:
        news = compare(files(**pool), Seen.after(past), "as_new")
        fresh += sorted({file.fingerprint for file in news.fresh})
        there |= set(pool.values())
        past.append(list(news.files))
    assert sorted(fresh) == sorted(there)
    assert dict(Seen.after(past).files) == pools[-1]


def test_news_survive_their_table() -> None:
    news = compare(files(a="B", b="BB"), seen(files(a="A")), "as_new").files
    assert news_of_table(news_table(news)) == list(news)
    assert news_of_table(news_table([])) == []
