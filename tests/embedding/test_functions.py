"""Any function from a list to an array embeds, and says so where it does not."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from ray_itl.embedding.opening import open_encoder
from ray_itl.embedding.settings import EmbeddingModelSettings, EmbeddingSettings
from ray_itl.errors import ConfigError, InputError

CODE = """
import numpy as np

def counts(letters="ab"):
    def embed(texts):
        assert isinstance(texts, list)
        return [[text.count(letter) for letter in letters] for text in texts]
    embed.version = "7"
    return embed

def sums():
    return lambda lists: np.array([[sum(each)] for each in lists])

def sizes():
    return lambda contents: np.array([[len(each), 1.0] for each in contents])

def fails():
    def embed(texts):
        raise KeyError("no weights")
    return embed

def flat():
    return lambda texts: np.zeros(len(texts))

def words():
    return lambda texts: [["x"] for _ in texts]

def one_less():
    return lambda texts: np.zeros((len(texts) - 1, 3))

def nothing():
    return 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "own_functions.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_functions"
    sys.modules.pop("own_functions", None)


TEXTS = pa.array(["abba", "banana", "c"])


def opened(name: str, sample: pa.Array | None = TEXTS, options: dict[str, Any] | None = None, **how: Any) -> Any:
    return open_encoder(EmbeddingModelSettings(name, options), EmbeddingSettings(**how), sample=sample)


def test_lists_in_an_array_out(module: str) -> None:
    encoder = opened(f"{module}:counts")
    assert encoder.dim == 2
    found = encoder.embed_column(TEXTS)
    assert (found.dtype, found.tolist()) == (np.float32, [[2, 2], [3, 1], [0, 0]])
    three = opened(f"{module}:counts", options={"letters": "abn"}, unit_norm=True)
    assert three.embed_column(TEXTS)[1].tolist() == pytest.approx(np.array([3, 1, 2]) / np.sqrt(14))
    assert opened(f"{module}:sums", pa.array([[1.0, 2.0]])).embed_column(pa.array([[3, 4], [5, 6]])).tolist() == [
        [7],
        [11],
    ]
    images = pa.array([{"bytes": b"abc", "path": None}, {"bytes": b"d", "path": None}])
    assert opened(f"{module}:sizes", images).embed_column(images).tolist() == [[3, 1], [1, 1]]


def test_it_travels_as_its_name_and_refuses_other_code(module: str, tmp_path: Path) -> None:
    packed = pickle.dumps(opened(f"{module}:counts"))
    assert pickle.loads(packed).embed_column(TEXTS).tolist() == [[2, 2], [3, 1], [0, 0]]
    (tmp_path / "own_functions.py").write_text(CODE + "\n# changed\n")
    with pytest.raises(InputError, match=r"own_functions:counts' is other code here"):
        pickle.loads(packed).embed_column(TEXTS)


def test_identity_sees_options_version_and_code(module: str, tmp_path: Path) -> None:
    first = opened(f"{module}:counts").identity()
    assert first["version of the function"] == "7"
    assert opened(f"{module}:counts").identity() == first
    assert opened(f"{module}:counts", options={"letters": "xy"}).identity() != first
    (tmp_path / "own_functions.py").write_text(CODE + "\n# changed\n")
    assert opened(f"{module}:counts").identity() != first


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("fails", r"model\.name='own_functions:fails' failed on 3 rows: KeyError: 'no weights'"),
        ("flat", r"gave an array of shape \(3,\) for 3 rows: it must give"),
        ("words", r"gave something that is no array of numbers"),
        ("one_less", r"gave an array of shape \(2, 3\) for 3 rows"),
        ("nothing", r"gave a int, but it must give a function"),
        ("missing", r"own_functions:missing' cannot be imported"),
    ],
)
def test_what_is_no_embedding_is_refused(module: str, name: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        opened(f"{module}:{name}")


def test_options_that_do_not_fit(module: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.options do not fit"):
        opened(f"{module}:counts", options={"letter": "a"})
    with pytest.raises(ConfigError, match=r"embedding\.kind='gradient'"):
        opened(f"{module}:counts", kind="gradient")
    with pytest.raises(ConfigError, match=r"model\.checkpoint='w' cannot be used"):
        open_encoder(EmbeddingModelSettings(f"{module}:counts", checkpoint="w"), sample=TEXTS)
    with pytest.raises(InputError, match=r"no row to try it on"):
        opened(f"{module}:counts", pa.array([None], pa.string()))


def test_bad_rows_are_named(module: str) -> None:
    encoder = opened(f"{module}:counts", batch_size=2)
    with pytest.raises(InputError, match=r"^row 3 \(counting from 0\): the text is blank"):
        encoder.embed_column(pa.array(["a", "b", "c", " "]))


def test_tensors_are_arrays(module: str) -> None:
    encoder = opened(f"{module}:counts")
    encoder._function = lambda texts: torch.ones(len(texts), 2, requires_grad=True)
    assert encoder.embed_column(TEXTS).tolist() == [[1, 1]] * 3
    encoder._function = lambda texts: torch.ones(len(texts), 5)
    with pytest.raises(ConfigError, match="gave 5 numbers a row after 2 at first"):
        encoder.embed_column(TEXTS)
