"""Selecting in rounds: which embedding, which targets, which candidates, and then the rule."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.ids import id_span
from ray_itl.core.pool import Pool
from ray_itl.core.trajectory import Pick
from ray_itl.errors import ConfigError, InputError
from ray_itl.rounds.data import TuningData, smallest_by_hash
from ray_itl.rounds.features import RoundFeatures, measure_drift
from ray_itl.rounds.model import RoundModel
from ray_itl.rounds.picking import RoundContext, best_candidates, pick_from_candidates, pick_from_pool
from ray_itl.rounds.resources import PoolCache
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.shards.loading import STORAGE_DTYPES
from ray_itl.sources.base import RowSource
from ray_itl.sources.open import open_raw_rows
from ray_itl.training.seeds import derive_seed

_DRIFT_ROWS = 512
NONE = np.empty(0, dtype=np.int64)
"""No positions."""


@dataclass(frozen=True)
class RoundPicks:
    """A round's picks and what selecting them took."""

    picks: list[Pick]
    seconds: dict[str, float]
    drift: dict[str, float] | None
    """How far a sample of the pool moved since the embedding before; None where there was none, or none new."""


class RoundSelector:
    """Selects round after round; what it keeps between rounds only saves time."""

    def __init__(self, data: TuningData, settings: FineTuneSettings, model: RoundModel, pool_cache: PoolCache) -> None:
        """Take opened data, the options of the rounds, the model, and a cache of the pool, which the caller closes."""
        self._data = data
        self._settings = settings
        self._model = model
        self._pool_cache = pool_cache
        self._ids: np.ndarray | None = None
        self._drift_sample: dict[int, Tensor] = {}
        """Embeddings of the drift rows by what the last round compared left; by that round."""

    def select(self, folder: RoundFolder, earlier: Sequence[Pick], unlabelled: np.ndarray = NONE) -> RoundPicks:
        """Pick one round's rows given all earlier picks.

        Args:
            folder: Of the round.
            earlier: Picks of the rounds before, none of which is picked again.
            unlabelled: Positions of those of them that have no label, so that nothing is known by them.

        Raises:
            InputError: rows that cannot be embedded, or an id that occurs twice.
            ConfigError: fewer rows are left than asked for.
            ShardError: a shard failed and could not be rebuilt.
        """
        settings, number, began = self._settings, folder.number, time.perf_counter()
        if settings.acquisition.name == "random":
            picks = self._draw(number, earlier)
            return RoundPicks(picks, {"embed": 0.0, "select": time.perf_counter() - began}, None)
        embedded_after = self._embedded_after(number)
        embedding = self._embedding(embedded_after)
        context = self._context(number, earlier, embedding, unlabelled)
        pool = self._pool(embedding, f"{embedded_after}") if self._needs_whole_pool(folder) else None
        embedding_done = time.perf_counter()
        picks = self._pick(folder, embedding, pool, context)
        selecting_done = time.perf_counter()
        drift = self._drift(number, embedding)
        seconds = {
            "embed": embedding_done - began,
            "select": selecting_done - embedding_done,
            "drift": time.perf_counter() - selecting_done,
        }
        return RoundPicks(picks, seconds, drift)

    def checkpoints_needed(self, number: int) -> set[str | None]:
        """Return the checkpoints that round `number` reads: of what trains on, and of both embeddings compared."""
        earlier = {number - 1, self._embedded_after(number), self._embedded_after(number - 1) if number > 1 else 0}
        return {self._model.checkpoint_after(each) for each in earlier}

    def _pick(
        self, folder: RoundFolder, embedding: RoundFeatures, pool: Pool | None, context: RoundContext
    ) -> list[Pick]:
        settings, count = self._settings.candidates, self._settings.rounds.batch
        if settings.which == "all" and pool is not None:
            return pick_from_pool(pool, context, count)
        if settings.which == "best" and pool is not None:
            folder.create()
            folder.write_candidates(best_candidates(pool, context, settings.count))
        positions = self._candidate_positions(folder, context)
        if len(positions) < count:
            raise ConfigError(
                f"round {folder.number} has {len(positions)} candidates left for rounds.batch={count}: raise "
                "candidates.count, lower candidates.refresh, or ask for fewer rounds"
            )
        source, positions = embedding.candidates(positions)
        picks = pick_from_candidates(source, context, count)
        return [Pick(int(positions[pick.position]), pick.row_id, pick.gain) for pick in picks]

    def _candidate_positions(self, folder: RoundFolder, context: RoundContext) -> np.ndarray:
        settings = self._settings.candidates
        free = np.ones(self._data.pool.num_rows, dtype=bool)
        free[context.taken] = False
        if settings.which == "best":
            kept = self._scored_in(folder).read_candidates()
            assert kept is not None, "a round that scores writes its candidates first"
            return kept[free[kept]]
        if settings.which == "random":
            seed = derive_seed(self._settings.rounds.seed, "candidates", folder.number)
            return smallest_by_hash(self._pool_ids(), free, settings.count, seed)
        return np.flatnonzero(free)

    def _needs_whole_pool(self, folder: RoundFolder) -> bool:
        which = self._settings.candidates.which
        if which == "best":
            return self._scored_in(folder).number == folder.number and folder.read_candidates() is None
        return which == "all" and self._settings.acquisition.name != "badge"

    def _scored_in(self, folder: RoundFolder) -> RoundFolder:
        """Return the round in which the whole pool was last scored for its best candidates."""
        refresh = self._settings.candidates.refresh
        number = (folder.number - 1) // refresh * refresh + 1
        return RoundFolder(folder.path.parents[1], number)

    def _embedded_after(self, number: int) -> int:
        """Return the round whose checkpoint embeds rows in round `number`; 0 is the model that the run begins with."""
        if self._settings.embedding.kind == "column":
            return 0
        return (number - 1) // self._settings.embedding.every * self._settings.embedding.every

    def _embedding(self, number: int) -> RoundFeatures:
        """Return the embedding by what round `number` left (0: what the run begins with)."""
        return RoundFeatures(self._data, self._settings, self._model, self._model.checkpoint_after(number))

    def _context(
        self, number: int, earlier: Sequence[Pick], embedding: RoundFeatures, unlabelled: np.ndarray
    ) -> RoundContext:
        settings, num_targets = self._settings, self._data.targets.num_rows
        out, num_before = set(unlabelled.tolist()), len(earlier)
        earlier = [pick for pick in earlier if pick.position not in out]
        chosen = np.arange(num_targets)
        if settings.rounds.targets_per_round is not None:
            rng = np.random.default_rng(derive_seed(settings.rounds.seed, "targets", number))
            chosen = np.sort(rng.choice(num_targets, settings.rounds.targets_per_round, replace=False))
        features = embedding.rows(np.array([pick.position for pick in earlier], dtype=np.int64))
        return RoundContext(
            settings.acquisition,
            embedding.targets(chosen),
            earlier,
            features.to(STORAGE_DTYPES[settings.embedding.dtype]).to(torch.float64),  # as the shards hold them
            derive_seed(settings.rounds.seed, "rule", number),
            settings.embedding.dtype,
            np.concatenate([self._data.barred, unlabelled]),
            num_before,
        )

    def _draw(self, number: int, earlier: Sequence[Pick]) -> list[Pick]:
        """Draw uniformly, without a look at any row."""
        ids = self._pool_ids()
        free = np.ones(len(ids), dtype=bool)
        free[[pick.position for pick in earlier]] = False
        free[self._data.barred] = False
        seed = derive_seed(self._settings.rounds.seed, "rule", number)
        positions = smallest_by_hash(ids, free, self._settings.rounds.batch, seed)
        return [Pick(int(p), ids[p : p + 1].tolist()[0], float("nan")) for p in positions]

    def _drift(self, number: int, embedding: RoundFeatures) -> dict[str, float] | None:
        now = self._embedded_after(number)
        before = self._embedded_after(number - 1) if number > 1 else now
        if now == before:
            return None
        old = self._drift_sample.get(before)
        if old is None:  # of a run that goes on
            old = self._embedding(before).embed(self._drift_rows)
        self._drift_sample = {now: embedding.embed(self._drift_rows)}
        return asdict(measure_drift(old, self._drift_sample[now]))

    @cached_property
    def _drift_rows(self) -> RowSource:
        """The rows whose embeddings are compared, evenly spread over the pool: read once a run."""
        data = self._settings.data
        usable = np.setdiff1d(np.arange(self._data.pool.num_rows), self._data.barred)
        positions = usable[np.unique(np.linspace(0, len(usable) - 1, _DRIFT_ROWS).astype(np.int64))]
        rows = self._data.pool.take(positions, [data.raw_column])
        return open_raw_rows(rows, id_column="", columns=[data.raw_column])

    def _pool(self, embedding: RoundFeatures, key: str) -> Pool:
        pool = self._pool_cache.load(embedding.pool(), key, self._data.barred)
        if self._ids is None and (found := pool.repeated_id()) is not None:
            raise _repeated(found[0])
        return pool

    def _pool_ids(self) -> np.ndarray:
        if self._ids is None:
            self._ids = self._data.pool_ids()
            repeated = id_span(np.delete(self._ids, self._data.barred)).repeated
            if repeated is not None:
                raise _repeated(repeated)
        return self._ids


def _repeated(row_id: int | str) -> InputError:
    return InputError(
        f"row id {row_id!r} occurs more than once in data.pool: remove the duplicate rows or choose another "
        "data.id_column"
    )
