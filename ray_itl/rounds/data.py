"""The rows of an active fine-tuning, opened and checked: pool, target sample, held-out rows.

Also the run's identity: what decides the result. A run directory may only be continued when none of it changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_itl.core.ranking import hash_order
from ray_itl.errors import ConfigError, InputError
from ray_itl.extras import load_by_name
from ray_itl.options.declare import deciding
from ray_itl.rounds.classes import Classes
from ray_itl.rounds.group_settings import DataSettings
from ray_itl.rounds.label_files import names_of
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.runs.fingerprint import rows_fingerprint
from ray_itl.shards.footprint import available_memory
from ray_itl.sources.bad_rows import BadRows
from ray_itl.sources.base import RowSource
from ray_itl.sources.held import HeldRows
from ray_itl.sources.open import open_raw_rows

_HELD_BYTES = 512 << 20
_HELD_SHARE = 16
"""A pool is held in memory between rounds if it takes at most so many bytes, and this part of the memory left."""


@dataclass(frozen=True)
class TuningData:
    """Three sets of rows; none is read whole but the target sample, the held-out rows and a small pool."""

    pool: RowSource
    targets: RowSource
    heldout: RowSource
    options: DataSettings
    """Which columns the model reads, and which labels are the task's."""
    objective: str
    """Of the training, a key of `training.objectives`: classification needs labelled held-out rows."""
    pool_columns: tuple[str, ...]
    """What rounds read of the pool's rows, beside given embeddings."""
    classes: Classes
    """Which labels are the task's, and which output of the model each is."""
    barred: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Positions of rows of the pool that are passed over: they cannot be used, or are nearly equal to held-out ones."""

    @property
    def raw_type(self) -> pa.DataType:
        """The type of what the model reads."""
        return self.pool.take(np.empty(0, np.int64), [self.options.raw_column]).column(0).type

    def fingerprints(self) -> dict[str, str]:
        """Return a digest of each set that changes when its rows do."""
        sets = {"pool": self.pool, "target": self.targets, "heldout": self.heldout}
        return {name: rows_fingerprint(rows, self.options.raw_column) for name, rows in sets.items()}

    def pool_ids(self) -> np.ndarray:
        """Return the ids of all rows of the pool, those barred included. One pass over the id column."""
        bad = BadRows()
        parts = [ids for ids, _ in self.pool.row_batches(0, self.pool.num_rows, [], bad)]
        if len(bad.without(self.barred)):
            raise bad.without(self.barred).refusal(self.pool.locate)
        return np.concatenate(parts)

    def held(self) -> TuningData:
        """Return the same rows; those of a small pool stay in memory once they were read."""
        most = min(_HELD_BYTES, available_memory() // _HELD_SHARE)
        return replace(self, pool=HeldRows(self.pool, self.pool_columns, most))

    def raw(self, rows: RowSource, positions: np.ndarray) -> pa.Array:
        """Return what the model reads of rows at positions."""
        raw = self.options.raw_column
        return rows.take(positions, [raw]).column(raw).combine_chunks()

    def heldout_classes(self) -> list[int] | None:
        """Return the output of the model for each held-out row; None where the objective has no classes.

        Raises:
            InputError: a held-out row of another class than those of the task.
        """
        if self.objective != "classification":
            return None
        column = self.options.label_column
        values = self.heldout.take(np.arange(self.heldout.num_rows), [column]).column(column).to_pylist()
        numbers = [self.classes.number(value) for value in values]
        if (strange := [v for v, c in zip(values, numbers, strict=True) if c is None]) != []:
            raise InputError(
                f"data.heldout has the label {strange[0]!r}, which is not one of data.classes="
                f"{self.options.classes}: drop such rows, list their class, or set data.others=class"
            )
        return [number for number in numbers if number is not None]


def open_tuning_data(settings: FineTuneSettings) -> TuningData:
    """Open the three sets of rows; reads footers only.

    Raises:
        ConfigError: a set is not named, there are fewer rows than the rounds ask for, or classes or a labelling
            function that cannot be used.
        InputError: files or columns that cannot be used.
    """
    data = settings.data
    for option in ("pool", "target", "heldout"):
        if getattr(data, option) is None:
            raise ConfigError(f"data.{option} is not set: name a file, folder, glob or URI")
    if settings.model.objective == "classification" and not data.classes:
        raise ConfigError("data.classes is empty: list the labels of the task, in the order of the model's outputs")
    label, column = {data.label_column: "data.label_column"}, settings.embedding.column
    labelled = label if settings.model.objective == "classification" else {}
    from_pool = label if data.classes and settings.labels.source == "column" else {}
    raw = {data.raw_column: "data.raw_column"}
    read = {**({column: "embedding.column"} if column else {}), **raw}
    seen = dict.fromkeys(settings.labels.columns, "labels.columns")
    further = dict.fromkeys(settings.trainer.columns, "trainer.columns")
    of_pool = {**seen, **further, **from_pool, **read}
    pool = open_raw_rows(data.pool, id_column=data.id_column, columns=of_pool, id_option="data.id_column")
    targets = open_raw_rows(data.target, id_column="", columns=read)
    of_heldout = {**further, **labelled, **raw}
    heldout = open_raw_rows(data.heldout, id_column="", columns=of_heldout)
    asked = settings.rounds.count * settings.rounds.batch
    if asked > pool.num_rows:
        raise ConfigError(
            f"rounds.count x rounds.batch = {asked}, but the pool has {pool.num_rows} rows: ask for fewer"
        )
    m = settings.rounds.targets_per_round
    if m is not None and m > targets.num_rows:
        raise ConfigError(f"rounds.targets_per_round={m}, but data.target has {targets.num_rows} rows: ask for fewer")
    if settings.labels.function is not None:
        load_by_name(settings.labels.function, {}, option="labels.function")
    classes = Classes(data.classes, has_others=data.others == "class")
    if settings.labels.source == "people":
        names_of(classes)  # raises where two are written alike
    columns = tuple({**seen, **further, **from_pool, **raw})
    return TuningData(pool, targets, heldout, data, settings.model.objective, columns, classes)


def smallest_by_hash(ids: np.ndarray, free: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return positions of a uniform sample of the free rows, fixed by the seed and the ids, in random order.

    Args:
        ids: N distinct ids.
        free: Which rows may be drawn, N bool.
        count: How many; fewer come back when fewer are free.
        seed: Fixes the sample.
    """
    positions = np.flatnonzero(free)
    # Not lexsort, which some NumPy releases cannot do on variable-width strings.
    by_id = positions[np.argsort(ids[positions], kind="stable")]
    order = np.argsort(hash_order(ids[by_id], seed), kind="stable")
    return by_id[order[:count]]


def tuning_identity(data: TuningData, settings: FineTuneSettings) -> dict[str, str]:
    """Return name -> digest or value of everything that decides picks and weights; who trains and where does not."""
    contents = _contents(settings.model.checkpoint)
    return {**data.fingerprints(), "contents of model.checkpoint": contents, **deciding(settings)}


def _contents(path: str | None) -> str:
    if path is None:
        return ""
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"model.checkpoint={path} cannot be read ({error}): give a safetensors file") from error
