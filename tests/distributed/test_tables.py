"""Shards read their own rows of tables, whichever kind these are, in memory and on disk."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ray_itl import select
from tests.sources.tables.writers import WRITERS, embeddings, rows

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


@pytest.mark.parametrize("kind", sorted(WRITERS))
@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_picks_on_ray_are_those_from_the_rows_in_memory(
    tmp_path: Path, kind: str, storage: Literal["memory", "disk"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ITL_CACHE", str(tmp_path / "cache"))
    folder, targets = tmp_path / "t", embeddings(range(500, 506))
    WRITERS[kind].append(folder, rows(0, 90), partition="lang")
    WRITERS[kind].append(folder, rows(90, 120))
    WRITERS[kind].delete(folder, "id in (3, 50, 100)")
    kept = [each for each in range(120) if each not in (3, 50, 100)]
    expected = select(embeddings(kept), targets, n=12)
    found = select(folder, targets, n=12, num_shards=3, storage=storage, columns=["lang"])
    ids = found.table["id"].to_pylist()
    assert ids == [kept[position] for position in expected.table["id"].to_pylist()]
    np.testing.assert_allclose(found.gains, expected.gains)
    assert found.table["lang"].to_pylist() == [rows(each, each + 1)["lang"][0].as_py() for each in ids]
