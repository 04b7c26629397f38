"""What label columns hold is known before the first round: other kinds, near misses, classes that are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import InputError
from ray_itl.rounds.data import open_tuning_data
from ray_itl.rounds.group_settings import DataSettings, LabelSettings, ModelSettings, RoundSettings
from ray_itl.rounds.label_survey import check_labels
from ray_itl.rounds.settings import FineTuneSettings

NAN = float("nan")


def survey(
    folder: Path,
    labels: list[Any] | pa.Array,
    classes: list[Any],
    heldout: list[Any] | None = None,
    **options: Any,
) -> list[str]:
    """Check a pool of these labels; return what is warned of."""
    rows = {"pool": labels, "target": [0], "heldout": list(classes) if heldout is None else heldout}
    for name, values in rows.items():
        table = pa.table({"id": range(len(values)), "embedding": [[1.0]] * len(values), "label": values})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=2)
    objective = options.pop("objective", "classification")
    data = DataSettings(*(str(folder / f"{name}.parquet") for name in rows), classes=classes, **options)
    settings = FineTuneSettings(
        data=data, model=ModelSettings(objective=objective), rounds=RoundSettings(1, 1), labels=LabelSettings()
    )
    warned: list[str] = []
    check_labels(open_tuning_data(settings), True, warned.append)
    return warned


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([3, 4, 6, 3], [3, 6]),
        ([3.0, 4.0, 6.0], [3, 6]),
        (["a", "b", "c"], ["a"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b"]),
        ([True, False], [True, False]),
    ],
)
def test_labels_that_are_well_are_not_spoken_of(tmp_path: Path, labels: Any, classes: list) -> None:
    assert survey(tmp_path, labels, classes) == []


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["1", "3", "6"], [3, 6], r"pool\.parquet', row 0 .*, id 0: '1' is text, data\.classes are numbers \(as 3\)$"),
        ([3, 6], ["3", "6"], r"row 0 .*: 3 is a number, .* did you mean '3'\?"),
        (["Boot", "b", "Boot", "Boot "], ["Boot"], r"row 3 .*, id 3: 'Boot ' is not .* did you mean 'Boot'"),
        ([3.0, 3.0, 6.5], [3, 6], r"row 2 .*: 6\.5 is no whole number"),
        ([[3], [6]], [3, 6], r"row 0 .*: \[3\] is a list"),
        ([True, False], [0, 1], r"True is true or false, data\.classes are numbers"),
    ],
)
def test_values_that_are_no_labels_are_refused_by_row(tmp_path: Path, labels: Any, classes: list, message: str) -> None:
    with pytest.raises(InputError, match=r"^data\.pool, column 'label': .*" + message):
        survey(tmp_path, labels, classes)


def test_held_out_labels_are_looked_at_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.heldout.*row 1 .*: 'a ' is not .* did you mean 'a'\?"):
        survey(tmp_path, ["a", "b"], ["a", "b"], ["b", "a "])
    assert survey(tmp_path, ["a", "b"], ["a", "b"], ["b"]) == [
        "data.classes lists 'a', which no row of data.heldout has"
    ]


def test_a_class_that_no_row_has_is_warned_of_with_the_nearest(tmp_path: Path) -> None:
    (warning,) = survey(tmp_path, ["boots", "shirt", "shirt"], ["boot", "shirt"])
    assert warning == "data.classes lists 'boot', which no row of data.pool has; the nearest label there is 'boots'"
    (warning,) = survey(tmp_path, [3, 4, 5], [3, 7])
    assert warning == "data.classes lists 7, which no row of data.pool has"


def test_a_pool_without_the_task_is_refused_where_nothing_could_be_learnt(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no row of data\.pool is of data\.classes=\[7\]: .* holds 3, 4; correct"):
        survey(tmp_path, [3, 4], [7])
    (warning,) = survey(tmp_path, [3, 4], [7], others="class")
    assert warning.startswith("no row of data.pool is of data.classes=[7]")
    (warning,) = survey(tmp_path, [3, 4], [7], objective="causal_lm")
    assert warning.startswith("no row of data.pool is of data.classes=[7]")


@pytest.mark.parametrize("missing", [None, NAN])
def test_rows_without_a_label_are_counted(tmp_path: Path, missing: float | None) -> None:
    (warning,) = survey(tmp_path, [3.0, missing, missing, 6.0, missing], [3, 6])
    assert "in 3 rows (the first: file 'pool.parquet', row 1 (counting from 0))" in warning
