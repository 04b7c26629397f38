"""Bad input ends a job with exit code 2, one line that names it and the remedy, and nothing left behind."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_itl.errors import ConfigError, InputError, UnfinishedFileError
from ray_itl.io.credentials import one_line
from tests.helpers import DIM, Files, clustered, table_of
from tests.jobs.helpers import compose_job, load_job

MIDDLE = "part-1.parquet"


def spoil_row(value: float, target: bool = False) -> Callable[[Files], list[str]]:
    def spoil(files: Files) -> list[str]:
        rows = clustered(100, seed=8)
        rows[41, 2] = value
        pq.write_table(table_of(rows, first_id=1000), files.target if target else files.pool / MIDDLE)
        return []

    return spoil


def with_middle(make: Callable[[pa.Table], pa.Table]) -> Callable[[Files], list[str]]:
    """Replace the second of the three pool files by a change of it."""

    def spoil(files: Files) -> list[str]:
        pq.write_table(make(pq.read_table(files.pool / MIDDLE)), files.pool / MIDDLE)
        return []

    return spoil


def as_bytes(make: Callable[[bytes], bytes]) -> Callable[[Files], list[str]]:
    def spoil(files: Files) -> list[str]:
        path = files.pool / MIDDLE
        path.write_bytes(make(path.read_bytes()))
        return []

    return spoil


def saved(name: str, array: np.ndarray) -> Callable[[Files], list[str]]:
    def spoil(files: Files) -> list[str]:
        np.save(files.folder / name, array)
        return [f"pool.prior_covariance={files.folder / name}"]

    return spoil


def ragged(table: pa.Table) -> pa.Table:
    values = [row[: 7 if i == 41 else 8] for i, row in enumerate(table.column("embedding").to_pylist())]
    return table.set_column(1, "embedding", pa.array(values, pa.list_(pa.float32())))


def empty_target(files: Files) -> list[str]:
    pq.write_table(table_of(clustered(5, seed=1)).slice(0, 0), files.target)
    return []


def empty_pool(files: Files) -> list[str]:
    for path in files.pool.iterdir():
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    return []


def empty_folder(files: Files) -> list[str]:
    for path in files.pool.iterdir():
        path.unlink()
    return []


def narrow_target(files: Files) -> list[str]:
    pq.write_table(table_of(clustered(9, seed=2)[:, :5].copy()), files.target)
    return []


def negative_weights(files: Files) -> list[str]:
    table = pq.read_table(files.target)
    pq.write_table(table.set_column(2, "weight", pa.array(-np.arange(12.0))), files.target)
    return ["target.weight_column=weight"]


def under_a_file(files: Files) -> list[str]:
    (files.folder / "plain").touch()
    return [f"run.dir={files.folder}/plain/run"]


def option(*overrides: str) -> Callable[[Files], list[str]]:
    return lambda _: list(overrides)


CASES: dict[str, tuple[Callable[[Files], list[str]], type[Exception], str]] = {
    "missing id column": (option("pool.id_column=key"), InputError, r"key.*id, embedding, weight, text"),
    "missing embedding column": (option("pool.embedding_column=e"), InputError, "part-0.*'e'.*embedding_column"),
    "missing in one file": (with_middle(lambda t: t.drop_columns(["id"])), InputError, f"{MIDDLE}.*'id'"),
    "missing carried column": (option("pool.columns=[label]"), InputError, "'label'"),
    "missing weight column": (option("target.weight_column=w"), InputError, "targets: .*'w'"),
    "text for embeddings": (option("pool.embedding_column=text"), InputError, "'text' .*string"),
    "floats for ids": (option("pool.id_column=weight"), InputError, "'weight' .*double"),
    "ragged rows": (with_middle(ragged), InputError, f"{MIDDLE}.*row 41"),
    "files of other dimensions": (
        with_middle(lambda _: table_of(clustered(100, seed=8)[:, :5].copy())),
        InputError,
        f"{MIDDLE}.*dimension 5",
    ),
    "target of other dimensions": (narrow_target, InputError, "target embeddings have 5 dimensions, the pool's have 8"),
    "NaN": (spoil_row(np.nan), InputError, f"{MIDDLE}.*row 41.*NaN"),
    "infinity": (spoil_row(np.inf), InputError, f"{MIDDLE}.*row 41.*inf"),
    "NaN in a target": (spoil_row(np.nan, target=True), InputError, "targets: .*row 41.*NaN"),
    "too large for half": (
        lambda files: [*spoil_row(1e6)(files), "pool.dtype=float16"],
        InputError,
        rf"{MIDDLE}.* row 41.*pool\.dtype=float32",
    ),
    "duplicate ids": (
        with_middle(lambda t: t.set_column(0, "id", pa.array([*range(1000, 1099), 1007]))),
        InputError,
        rf"row id 1007 occurs more than once \({MIDDLE} row 7 and {MIDDLE} row 99\)",
    ),
    "null id": (
        with_middle(lambda t: t.set_column(0, "id", pa.array([*range(1000, 1099), None]))),
        InputError,
        f"{MIDDLE}.*row 99",
    ),
    "empty pool": (empty_pool, InputError, "no rows"),
    "empty folder": (empty_folder, InputError, "no .*file"),
    "empty target": (empty_target, InputError, "targets: .*no rows"),
    "negative weights": (negative_weights, InputError, "targets: .*row 1.*weight"),
    "n zero": (option("selection.n=0"), ConfigError, r"selection\.n=0 .*at least 1"),
    "n beyond the pool": (option("selection.n=301"), ConfigError, r"selection\.n=301, but the pool has 300 rows"),
    "truncated": (as_bytes(lambda data: data[: len(data) // 2]), UnfinishedFileError, f"{MIDDLE}.*cut short"),
    "damaged pages": (as_bytes(lambda data: data[:100] + b"\xff" * 2000 + data[2100:]), InputError, f"{MIDDLE}.*"),
    "no Parquet at all": (as_bytes(lambda _: b"id,embedding\n1,2\n"), InputError, f"{MIDDLE}.*Parquet"),
    "no such path": (option("pool.path=/nowhere/at/all"), InputError, "/nowhere/at/all"),
    "no such target": (option("target.path=/nowhere/at/all"), InputError, "targets: .*/nowhere/at/all"),
    "directory cannot be made": (under_a_file, ConfigError, r"run\.dir=.*choose another directory"),
    "negative noise": (option("acquisition.noise_variance=-1"), ConfigError, r"noise_variance=-1.*number > 0"),
    "unknown rule": (option("acquisition.name=best"), ConfigError, r"acquisition\.name='best' .*itl, vtl"),
    "clash of columns": (option("pool.columns=[rank,text]"), ConfigError, r"columns=\['rank'\].*leave them out"),
    "pool without target": (option("target.path=null"), ConfigError, r"target\.path is not set: give both"),
    "classes of another type": (
        option("evaluation.class_column=id", "evaluation.classes=[cat]"),
        ConfigError,
        r"evaluation\.classes.*int64",
    ),
    "prior of other dimension": (saved("p.npy", np.eye(3)), InputError, "for 3 dimensions, the embeddings have 8"),
    "prior not definite": (saved("p.npy", -np.eye(DIM)), InputError, "positive semi-definite"),
    "prior not a file": (option("pool.prior_covariance=/nowhere.npy"), InputError, r"pool\.prior_covariance=/nowhere"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    spoil, kind, message = CASES[name]
    files = Files(tmp_path)
    paths = [f"pool.path={files.pool}", f"target.path={files.target}", f"run.dir={tmp_path / 'run'}"]
    overrides = ["cluster.num_shards=0", "selection.n=12", "run.log=quiet", *paths, *spoil(files)]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        load_job("curate").main(compose_job("curate", *overrides))
    assert caught.value.code == (os.EX_TEMPFAIL if kind is UnfinishedFileError else 2)  # it has just been written
    assert isinstance(caught.value.__context__, kind)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"error: {one_line(str(caught.value.__context__))}\n"
    assert shown.err[:-1].isprintable()
    assert re.search(message, shown.err)
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_ends_with_2_where_there_is_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        load_job("verify").main(compose_job("verify", f"run.dir={tmp_path / 'nowhere'}"))
    assert caught.value.code == 2
