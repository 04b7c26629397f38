"""The features suite selects for the same tasks in every way."""

from pathlib import Path

import numpy as np

from benchmarks.features import features_table, run_features
from benchmarks.settings import FeaturesSettings


def test_every_way_is_measured_on_the_same_tasks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    classes = random.integers(4, size=500)
    rows = random.standard_normal((4, 8))[classes] + 0.5 * random.standard_normal((500, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    own = FeaturesSettings(
        num_rows=1000, num_targets=[1, 4], n=6, noises=[0.1, 10.0], num_features=64, degree=3, repeats=2
    )
    said: list[str] = []
    found = run_features(own, 0, tmp_path, said.append, (rows, classes))
    assert said[0].startswith("lengthscale ")
    names = list(dict.fromkeys(each.name for each in found))
    assert len(found) == len(names) * 2 * 2 * 2
    assert all(0 <= each.opposite <= each.unlike <= 1 for each in found)
    like = {each.name: each for each in found if (each.num_targets, each.rule, each.noise) == (4, "itl", 10.0)}
    assert like["RBF, exact"].unlike == 0
    assert like["RBF, exact"].of_class == 1
    assert features_table(found, own).count("\n| ") == len(found) + 1
