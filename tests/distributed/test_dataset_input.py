"""`select` takes a Ray Dataset as pool or target."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray.data

from ray_itl import ConfigError, InputError, select
from tests.helpers import clustered, table_of

POOL = table_of(clustered(120, seed=1))
TARGET = clustered(7, seed=2)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data"),  # it warns of options that it sets itself
]


def test_a_ray_dataset_gives_the_picks_of_the_table_it_came_from() -> None:
    columns = {"columns": ["text"], "num_shards": 0}
    found = select(ray.data.from_arrow([POOL.slice(0, 50), POOL.slice(50)]), TARGET, 6, **columns)
    expected = select(POOL, TARGET, 6, **columns)
    assert found.ids == expected.ids
    np.testing.assert_allclose(found.gains, expected.gains, rtol=1e-12)
    assert found.table.column("text").equals(expected.table.column("text"))


def test_a_ray_dataset_of_targets() -> None:
    target = pa.table({"embedding": table_of(TARGET).column("embedding")})
    assert select(POOL, ray.data.from_arrow(target), 6).ids == select(POOL, TARGET, 6).ids


def test_a_ray_dataset_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="write it with write_parquet"):
        select(ray.data.from_arrow(POOL), TARGET, 3, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match="has no rows"):
        select(ray.data.from_arrow(POOL.slice(0, 0)), TARGET, 3)
    assert list(tmp_path.iterdir()) == []
