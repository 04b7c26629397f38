"""The page for labelling is whole, safe, of bounded size, and does in a browser what it promises."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ray_itl.report import label_page
from ray_itl.report.label_page import LabelPage, render_label_page
from tests.report.browser import BROWSER, drawn_page, hidden_width, saved
from tests.report.pages import HOSTILE, Page
from tests.report.test_thumbnails import encoded


def make_page(n: int = 3, **changes: Any) -> LabelPage:
    fields: dict[str, Any] = {
        "title": "Round 1 of run",
        "file": "labels.csv",
        "folder": "/runs/run/rounds/0001",
        "classes": ["spam", "ham"],
        "other": "(other)",
        "skip": "(skip)",
        "ids": [str(10 * k) for k in range(n)],
        "columns": {"text": [f"text {k}" for k in range(n)]},
        "places": [f"part.parquet, row {k}" for k in range(n)],
        "given": [""] * n,
        "key": "key",
    }
    return LabelPage(**(fields | changes))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_element(text: str) -> None:
    def page(word: str) -> Page:
        columns = {word: [word, word]}
        hostile = make_page(
            2, title=word, folder=word, classes=[word, "b"], ids=[word, "1"], places=[word, word], columns=columns
        )
        return Page(render_label_page(hostile))

    hostile, harmless = page(text), page("(harmless)")
    assert hostile.shape == harmless.shape
    assert hostile.running == harmless.running
    assert hostile.rows["texts"][0]["values"] == [text, text]
    assert hostile.rows["ids"] == [text, "1"]


def test_it_loads_nothing_and_has_no_library_in_it() -> None:
    text = render_label_page(make_page())
    page = Page(text)
    assert (page.loading, len(page.running)) == ([], 1)
    assert "default-src 'none'" in page.policy
    assert page.policy.count("sha256-") == 1
    assert len(text) < 60_000


def test_many_images_are_made_smaller_until_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    Image.effect_noise((400, 400), 100).save(stream, "JPEG")
    images = [stream.getvalue()] * 40
    page = make_page(40, columns={"image": images})
    sizes = []
    for room in (24_000_000, 800_000, 60_000):
        monkeypatch.setattr(label_page, "PICTURE_BYTES", room)
        text = render_label_page(page)
        assert len(text) < room + 60_000
        sizes.append([len(each) for each in Page(text).rows["pictures"][0]])
    assert all(sizes[0])
    assert all(sizes[1])
    assert max(sizes[1]) < min(sizes[0]) / 3
    assert 0 in sizes[2]
    assert re.search(r"\d+ images of image cannot be shown here", Page(text).text)


def test_long_texts_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_page, "TEXT_CHARS", 5_000)
    page = Page(render_label_page(make_page(3, columns={"text": ["x" * 50_000] * 3})))
    assert {len(each) for each in page.rows["texts"][0]["values"]} == {1_000}
    assert "Long texts are cut short here" in page.text


@pytest.mark.parametrize(
    ("classes", "keys"),
    [
        (["spam", "ham"], "12"),
        (["3", "6", "9"], "369"),
        (["A", "b"], "ab"),
        (["a", "A"], "12"),
        (["s", "t"], "12"),  # s skips
        ([f"class {k}" for k in range(40)], "1234567890abcdefghijklmnpqrtvwxyz"),
    ],
)
def test_every_label_has_a_key_as_far_as_they_go(classes: list[str], keys: str) -> None:
    assert "".join(Page(render_label_page(make_page(classes=classes))).rows["keys"]) == keys


browser = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")


def after(page: LabelPage, script: str, folder: Path) -> str:
    """What a script leaves in the title, that runs after the page's own and that its policy would refuse."""
    text = render_label_page(page).replace("Content-Security-Policy", "unused")
    before = "<script>const made = []; URL.createObjectURL = (blob) => { made.push(blob); return 'blob:x'; };"
    # Nothing is downloaded: what would be saved is read instead.
    before += "HTMLAnchorElement.prototype.click = function () {};</script>"
    tail = (
        "<script>const find = (id) => document.getElementById(id);"
        "const press = (key, more) => dispatchEvent(new KeyboardEvent('keydown', { key, ...more }));"
        "const wanted = (async () => { let said = []; const say = (x) => said.push(x);"
        f"{script}; find('save').click(); say(await made.at(-1).text()); return said; }})();"
        "wanted.then((said) => { document.title = JSON.stringify(said); });</script></body>"
    )
    text = text.replace("<main>", before + "<main>").replace("</body>", tail)
    drawn = drawn_page(saved(text, folder / "page.html"), folder / "profile")
    title = re.search(r"<title>(.*?)</title>", drawn, re.DOTALL)
    assert title is not None
    return title[1].replace("&quot;", '"').replace("&amp;", "&")


@browser
@pytest.mark.cluster
def test_keys_and_clicks_label_skip_and_undo(tmp_path: Path) -> None:
    script = """
        press('1'); press('s'); press('2', { repeat: true }); press('2', { ctrlKey: true });
        say(find('count').textContent); say(find('texts').textContent);
        press('u'); say(find('now').textContent + find('texts').textContent);
        document.querySelectorAll('#classes button')[1].click(); press('o');
        say(find('count').textContent); say(find('save').className);
    """
    said = json.loads(after(make_page(ids=["1", "a,b", "'=c"]), script, tmp_path))
    assert said == [
        "1 labelled, 1 skipped, 1 to go",
        "text 2",
        "text 1",
        "3 labelled, 0 skipped, 0 to go",
        "ready",
        'id,label\r\n1,spam\r\n"a,b",ham\r\n\'=c,(other)\r\n',
    ]


@browser
@pytest.mark.cluster
def test_work_is_kept_between_visits_and_given_labels_are_there(tmp_path: Path) -> None:
    page = make_page(given=["ham", "", ""])
    first = json.loads(after(page, "say(find('texts').textContent); press('1')", tmp_path))
    assert first == ["text 1", "id,label\r\n0,ham\r\n10,spam\r\n"]
    second = json.loads(after(page, "say(find('texts').textContent); press('s')", tmp_path))
    assert second == ["text 2", "id,label\r\n0,ham\r\n10,spam\r\n20,(skip)\r\n"]
    (tmp_path / "other").mkdir()
    other = json.loads(after(make_page(key="another"), "press('1')", tmp_path))
    assert other == ["id,label\r\n0,spam\r\n"]


@browser
@pytest.mark.cluster
def test_a_browser_runs_it_under_its_own_policy(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.title='hacked'\">"
    page = make_page(columns={"text": [hostile] * 3, "image": [encoded((8, 8))] * 3}, classes=[hostile, "b"])
    drawn = drawn_page(saved(render_label_page(page), tmp_path / "page.html"), tmp_path / "profile")
    assert "<title>Round 1 of run</title>" in drawn
    assert drawn.count("<img") == 1  # the row's picture
    assert "0 labelled, 0 skipped, 3 to go" in drawn
    assert drawn.count("data-label=") == 3


@browser
@pytest.mark.cluster
def test_a_phone_need_not_scroll_sideways(tmp_path: Path) -> None:
    long = "a-name-without-any-space-" * 8
    page = make_page(title=long, folder=long, classes=[long, "b"], ids=[long, "1", "2"], columns={long: [long] * 3})
    assert hidden_width(saved(render_label_page(page), tmp_path / "page.html"), 375, tmp_path) == 0
