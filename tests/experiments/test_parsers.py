"""Each format is read into the rows it holds, and other content is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from ray_itl.errors import InputError
from ray_itl.experiments.cifar10 import read_batch, read_labels
from ray_itl.experiments.mnist import read_idx
from ray_itl.experiments.passages import entry, mail_sentences, untagged
from ray_itl.experiments.wordnet import CLASSES, Synset, parse_synsets


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def test_idx_arrays_of_any_shape() -> None:
    for shape in ((3,), (2, 4, 5)):
        values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        np.testing.assert_array_equal(read_idx(idx(values), "x"), values)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x0d\x01\0\0\0\1abcd", idx(np.zeros((3, 4), np.uint8))[:-1], b"\0\0\x08\3"]
)
def test_other_bytes_are_no_idx(content: bytes) -> None:
    with pytest.raises(InputError, match="images"):
        read_idx(content, "images")


def test_a_picture_holds_one_image_a_row(tmp_path: Path) -> None:
    picture = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1024, 3), np.uint8)
    picture.fromarray(pixels).save(tmp_path / "batch.png")
    limit = picture.MAX_IMAGE_PIXELS
    np.testing.assert_array_equal(read_batch(tmp_path / "batch.png"), pixels.reshape(5, 3072))
    assert limit == picture.MAX_IMAGE_PIXELS
    picture.fromarray(pixels[:, :100]).save(tmp_path / "narrow.png")
    with pytest.raises(InputError, match=r"narrow\.png.*\(5, 100, 3\)"):
        read_batch(tmp_path / "narrow.png")


@pytest.mark.parametrize("wrong", [[1, 2], [1, 2, 10], [1, 2, -1], [1, 2, 0.5], [[1], [2], [3]]])
def test_labels_are_checked(tmp_path: Path, wrong: list[float]) -> None:
    (tmp_path / "labels.json").write_text(json.dumps([3, 0, 9]))
    assert read_labels(tmp_path / "labels.json", 3).tolist() == [3, 0, 9]
    (tmp_path / "labels.json").write_text(json.dumps(wrong))
    with pytest.raises(InputError, match=r"labels\.json"):
        read_labels(tmp_path / "labels.json", 3)


ADJECTIVES = """  1 This software and database is being provided to you
00001740 00 a 02 able(p) 0 well_made 0 001 ! 00002098 a 0101 | having the means; "able to | swim"  \n\
00014490 44 s 01 abundant 0 000 | present in great quantity  \n"""


def test_synsets_have_words_as_spoken() -> None:
    assert list(parse_synsets(ADJECTIVES, "data.adj")) == [
        Synset("00001740a", 0, ("able", "well made"), 'having the means; "able to | swim"'),
        Synset("00014490s", 44, ("abundant",), "present in great quantity"),
    ]
    assert len(CLASSES) == len(set(CLASSES)) == 45


def test_a_dictionary_entry_is_a_document_of_its_own() -> None:
    passage = entry(Synset("00001740a", 0, ("able", "well made"), "having the means"))
    assert (passage.text, passage.topic) == ("able, well made: having the means", "wordnet/adj.all")
    assert passage.document == passage.id


@pytest.mark.parametrize("line", ["00001740 00 a 02 able", "00001740 zz a 01 able 0 000 | gloss", "1 2 | gloss"])
def test_other_lines_are_no_synsets(line: str) -> None:
    with pytest.raises(InputError, match=r"data\.adj: line 2"):
        list(parse_synsets(f"  licence\n{line}\n", "data.adj"))


def test_tagged_sentences_become_running_text() -> None:
    content = (
        "\n\n\t``/`` The/at fire's/nn+bez too/ql big/jj ''/'' ,/, she/pps said/vbd (/( twice/rb )/) ;/. ;/.\n"
        "It/pps was/bedz 1/2/cd past/in Gin/nn-tl Co./nn-tl ./.\n\n"
    )
    assert untagged(content) == ["“The fire's too big”, she said (twice);", "It was 1/2 past Gin Co."]


def test_a_mail_gives_prose_only() -> None:
    content = (
        b"From: a@b.example\nSubject: secret header\n\n"
        b"This is a sentence of the mail that counts. And this is the second\nsentence of it.\n\n"
        b"> This is what somebody else wrote before, quoted.\n\n"
        b"==============================================\n\nshort\n"
    )
    assert mail_sentences(content) == [
        "This is a sentence of the mail that counts.",
        "And this is the second sentence of it.",
    ]


def test_markup_and_unknown_character_sets_of_mails() -> None:
    content = (
        b'Content-Type: text/html; charset="no-such-set"\n\n<html><style>p {color: red}</style><!-- hidden -->'
        b"<p>Make money &amp; friends while you sleep</p><p>Caf\xe9s are open until the early morning</p></html>"
    )
    assert mail_sentences(content) == [
        "Make money & friends while you sleep",
        "Cafés are open until the early morning",
    ]


def test_parts_of_a_mail_that_are_no_text_are_left_out() -> None:
    content = (
        b'Content-Type: multipart/mixed; boundary="x"\n\n--x\nContent-Type: text/plain\n\n'
        b"The attached picture shows everything you need.\n--x\nContent-Type: image/png\n"
        b"Content-Transfer-Encoding: base64\n\nVGhpcyBpcyBub3QgYSBzZW50ZW5jZSBvZiB0aGUgbWFpbC4=\n--x--\n"
    )
    assert mail_sentences(content) == ["The attached picture shows everything you need."]
