"""A loaded pool gives what `select` gives, again and again, and says what it cannot do."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ray_itl
from ray_itl.errors import ConfigError, InputError
from ray_itl.loaded.pool import FIXED, SelectionOptions
from ray_itl.sources.condition import RowMask
from tests.loaded.cases import NUM_ROWS, OPTIONS, ROWS, TABLE, TARGET, check_same


@pytest.mark.parametrize("kind", ["files", "table"])
@pytest.mark.parametrize("fixed", [{}, {"dtype": "float16", "features": "unit_norm", "screening": "int8"}])
def test_every_selection_is_that_of_select(folder: Path, kind: str, fixed: dict[str, Any]) -> None:
    pool = folder if kind == "files" else TABLE
    with ray_itl.open_pool(pool, **fixed) as loaded:
        for options in (*OPTIONS, *OPTIONS[:3]):
            check_same(loaded, pool, 12, **fixed, **options) if not fixed else _same_with(loaded, pool, fixed, options)


def _same_with(loaded: ray_itl.LoadedPool, pool: Any, fixed: dict[str, Any], options: dict[str, Any]) -> None:
    found = loaded.select(TARGET, 12, **options)
    assert found.ids == ray_itl.select(pool, TARGET, 12, **fixed, **options).ids


def test_a_percentage_is_of_the_rows_that_meet_the_filter(folder: Path) -> None:
    with ray_itl.open_pool(folder) as loaded:
        assert len(check_same(loaded, folder, "10%", filter="tokens < 9")) == 8


def test_a_filter_at_opening_goes_with_those_of_selections(folder: Path) -> None:
    with ray_itl.open_pool(folder, filter="lang = 'en'") as loaded:
        assert loaded.num_rows == NUM_ROWS // 2
        found = loaded.select(TARGET, 9, filter="tokens < 20", columns=["lang"])
    expected = ray_itl.select(folder, TARGET, 9, filter="lang = 'en' and tokens < 20", columns=["lang"])
    assert found.ids == expected.ids
    assert found.table.column("row").equals(expected.table.column("row"))


def test_bad_rows_are_refused_at_opening_or_skipped_by_each_selection(folder: Path) -> None:
    rows = ROWS[150:].copy()
    rows[[2, 3, 7]] = np.nan
    pq.write_table(TABLE.slice(150).set_column(1, "embedding", pa.array(list(rows))), folder / "b.parquet")
    with pytest.raises(InputError, match=r"3 rows cannot be used.*pool.on_bad_row=skip"):
        ray_itl.open_pool(folder)
    with ray_itl.open_pool(folder, on_bad_row="skip") as loaded:
        for condition in (None, "lang = 'en'"):
            found = loaded.select(TARGET, 9, filter=condition)
            expected = ray_itl.select(folder, TARGET, 9, filter=condition, on_bad_row="skip")
            assert found.ids == expected.ids
            assert found.skipped is not None
            assert expected.skipped is not None
            assert found.skipped.equals(expected.skipped)


def test_an_array_is_selected_from_as_it_stands() -> None:
    with ray_itl.open_pool(ROWS) as loaded:
        check_same(loaded, ROWS, 10)
        with pytest.raises(InputError, match="an array has no columns"):
            loaded.select(TARGET, 5, filter="lang = 'en'")
        check_same(loaded, ROWS, 10, acquisition="vtl")  # an error leaves it as it was


def test_a_run_directory_resumes_as_ever(folder: Path, tmp_path: Path) -> None:
    first = ray_itl.select(folder, TARGET, 8, run_dir=tmp_path / "run")
    with ray_itl.open_pool(folder) as loaded:
        assert loaded.select(TARGET, 8, run_dir=tmp_path / "run").ids == first.ids
        assert loaded.select(TARGET, 8, run_dir=tmp_path / "other").ids == first.ids
    assert (tmp_path / "other" / "selection.parquet").exists()


@pytest.mark.parametrize("name", FIXED)
def test_what_is_fixed_is_refused_by_name(name: str) -> None:
    options: Any = {name: None}
    with ray_itl.open_pool(ROWS) as loaded, pytest.raises(ConfigError, match=f"{name} is fixed when a pool is opened"):
        loaded.select(TARGET, 5, **options)


def test_options_are_those_of_select() -> None:
    import inspect

    ours = {*SelectionOptions.__annotations__, *FIXED, "pool", "target", "n"}
    assert ours == {*inspect.signature(ray_itl.select).parameters}
    wrong: Any = {"nosie_variance": 1.0}
    with ray_itl.open_pool(ROWS) as loaded, pytest.raises(ConfigError, match="nosie_variance is no option here"):
        loaded.select(TARGET, 5, **wrong)


def test_a_closed_pool_says_so() -> None:
    loaded = ray_itl.open_pool(ROWS)
    loaded.close()
    loaded.close()
    assert repr(loaded) == "LoadedPool(closed)"
    with pytest.raises(ConfigError, match="the pool is closed"):
        loaded.select(TARGET, 5)


def test_files_that_change_are_named_and_new_ones_are_no_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ray_itl.open_pool(folder) as loaded:
        expected = loaded.select(TARGET, 9)
        pq.write_table(TABLE.slice(0, 30).set_column(0, "id", pa.array(map(str, range(30)))), folder / "c.parquet")
        assert loaded.select(TARGET, 9, columns=["lang"]).ids == expected.ids
        assert "1 file came since the pool was opened" in capsys.readouterr().err
        pq.write_table(TABLE.slice(0, 149), folder / "a.parquet")
        with pytest.raises(InputError, match=r"file 'a.parquet' has changed since the pool was opened"):
            loaded.select(TARGET, 9, columns=["tokens"])
        (folder / "a.parquet").unlink()
        with pytest.raises(InputError, match=r"file 'a.parquet' is not there any more"):
            loaded.select(TARGET, 9, filter="tokens < 9")
        assert loaded.select(TARGET, 9).ids == expected.ids  # what was loaded needs no file


@pytest.mark.parametrize("num_rows", [1, 4095, 4096, 4097, 9000])
def test_numbers_lead_from_kept_rows_and_back(num_rows: int) -> None:
    rng = np.random.default_rng(num_rows)
    first = rng.random(num_rows) < 0.5
    both = first & (rng.random(num_rows) < 0.5)
    mask, among = RowMask.of([first]), RowMask.of([both])
    rows = rng.permutation(np.flatnonzero(first))
    assert np.array_equal(mask.rows(mask.numbers(rows)), rows)
    within = among.within(mask)
    assert np.array_equal(within.slice(0, within.num_rows), both[first])


def test_rows_of_a_table_without_ids_are_numbered_as_select_numbers_them() -> None:
    table = TABLE.drop_columns(["id"])
    with ray_itl.open_pool(table) as loaded:
        for options in ({}, {"filter": "tokens < 20"}, {"filter": "tokens < 9", "acquisition": "random"}):
            check_same(loaded, table, 12, **options)
