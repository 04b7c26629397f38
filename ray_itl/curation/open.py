"""Opening a problem: what options name and callers hold, read, checked and put into one feature space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ray_itl.core.baselines import BaselineRule
from ray_itl.core.features import FeatureMap
from ray_itl.core.posterior import Targets
from ray_itl.curation.evaluation import absent_classes
from ray_itl.curation.feature_map import build_feature_map
from ray_itl.curation.heldout import HeldOut, overlap_with, read_heldout
from ray_itl.curation.inputs import FROM_OPTIONS, Inputs
from ray_itl.curation.percentage import percentage
from ray_itl.curation.pool_rows import column_words, encoder_of, naming_encoders, open_pool_rows
from ray_itl.curation.problem import Problem, objectives_of, tasks_among
from ray_itl.curation.rules import build_acquisition
from ray_itl.curation.settings import BASELINE_RULES, AcquisitionSettings, CurationSettings
from ray_itl.errors import ConfigError, InputError
from ray_itl.shards.conversion import map_rows
from ray_itl.sources.base import PoolSource
from ray_itl.sources.encoding import Encoding, MakesEncodings, RawColumn, encoding_of
from ray_itl.sources.targets import TargetTable, read_targets


def open_problem(
    settings: CurationSettings, inputs: Inputs = FROM_OPTIONS, source: PoolSource | None = None
) -> Problem:
    """Open and check everything; reads the targets and known rows, and of the pool only footers.

    Args:
        settings: The options.
        inputs: What the caller holds in memory; its lists of ids are looked up later (see `constraints.with_lists`).
        source: The rows of the pool that meet the options, where they are open already.

    Raises:
        InputError: data that cannot be used (names file, row or column).
        ConfigError: options that do not fit the data.
    """
    encoder = None if settings.encoder.name is None else encoder_of(settings, inputs)
    source = source or open_pool_rows(settings, inputs, encoder=encoder)
    _check_number(settings, source)
    absent = absent_classes(source, settings.evaluation)
    if absent and settings.state.dir is None:
        raise ConfigError(absent[0])
    feature_map = build_feature_map(settings, source, inputs.tell)
    feature_map.dim(source.dim)  # raises where a prior covariance is for other embeddings
    reading = _Reading(settings, inputs, encoder, encoding_of(source))
    read = reading.targets()
    targets = Targets.uniform(_to_features(feature_map, read.embeddings, source.dim, "target"))
    if read.weights is not None:
        targets = Targets(targets.rows, torch.tensor(read.weights))
    others = {what: reading.rows(what) for what in ("known", "avoid")}
    known, avoid = (
        None if rows is None else _to_features(feature_map, rows.embeddings, source.dim, what)
        for what, rows in others.items()
    )
    heldout = _read_heldout(reading, feature_map, source.dim)
    tasks = () if read.tasks is None else tasks_among(read.tasks, read.task_weights(settings.target.task_weights))
    avoided = None if avoid is None else Targets.uniform(avoid)
    weights = tuple(weight for _, weight in objectives_of(targets, tasks, avoided, settings.avoid.weight))
    name = settings.acquisition.name
    if encoder is not None and not encoder.is_used:
        inputs.tell(f"beware: encoder={settings.encoder.name} embeds nothing, since all rows have embeddings")
    return Problem(
        source=source,
        feature_map=feature_map,
        targets=targets,
        target_ids=read.ids,
        target_source=read.source,
        known=known,
        # Where the noise is relative to rows that are not read yet, `with_noise` builds the rule anew.
        acquisition=build_acquisition(settings.acquisition.on_rows(1.0, 0), weights, inputs.rule),
        selection=settings.selection,
        baseline=cast(BaselineRule, name) if name in BASELINE_RULES else None,
        tasks=tasks,
        avoid=avoided,
        avoid_weight=settings.avoid.weight,
        noise_is_relative=settings.acquisition.noise_variance is None,
        heldout=heldout,
        notes=(*absent, *_leaks(heldout, targets.rows, known), *(() if encoder is None else encoder.remarks)),
        contents={
            what: (len(rows.embeddings), rows.digest)
            for what, rows in {"target": read, **others}.items()
            if rows is not None and rows.digest is not None
        },
    )


def with_noise(problem: Problem, settings: AcquisitionSettings) -> Problem:
    """Return the problem with the rule of some options, in which the noise variance is a number."""
    weights = tuple(weight for _, weight in problem.objectives)
    return replace(problem, acquisition=build_acquisition(settings, weights), noise_is_relative=False)


def _check_number(settings: CurationSettings, source: PoolSource) -> None:
    n = settings.selection.n
    if not percentage(n) and n > source.num_rows and not settings.selection.replacement:
        meeting = "" if settings.pool.filter is None else " that meet pool.filter"
        raise ConfigError(f"selection.n={n}, but the pool has {source.num_rows} rows{meeting}: ask for 1 to that many")


@dataclass(frozen=True)
class _Reading:
    """How rows besides the pool's are read."""

    settings: CurationSettings
    inputs: Inputs
    encoder: MakesEncodings | None
    pool: Encoding | None
    """What embeds the pool, if anything does."""

    def targets(self) -> TargetTable:
        """Return the target sample."""
        rows, options = self.inputs.rows("target", self.settings), self.settings.target
        as_table = not isinstance(rows, np.ndarray | Tensor)
        return self._read(
            rows,
            "target",
            "targets",
            embedding_column=options.embedding_column if as_table else "embedding",
            weight_column=options.weight_column,
            id_column=options.id_column,
            task_column=options.task_column if as_table else None,
        )

    def rows(self, what: str) -> TargetTable | None:
        """Return the rows that are known, to be avoided, or held out; None without any."""
        rows = self.inputs.rows(what, self.settings)
        if rows is None:
            return None
        return self._read(rows, what, f"{what} rows", embedding_column=getattr(self.settings, what).embedding_column)

    def _read(self, rows: Any, group: str, what: str, embedding_column: str, **columns: Any) -> TargetTable:
        own, like = getattr(self.settings, group).text_column, "" if self.pool is None else self.pool.column
        # Of held-out rows it names what is compared as text: the likeliest to be embedded, where they lack embeddings.
        asked, like = (None, own or like) if group == "heldout" else (own, like)
        raw = None if self.encoder is None else RawColumn(self.encoder, asked, f"{group}.text_column", like)
        with naming_encoders(self.encoder, group):
            found = read_targets(
                rows,
                embedding_column=embedding_column,
                what=what,
                group=group,
                raw=raw,
                on_rows=lambda done, of: self.inputs.on_rows(what, done, of),
                **columns,
            )
        if raw is not None and asked is None and not isinstance(rows, np.ndarray | Tensor):
            column = None if found.encoding is None else found.encoding.column
            if column is None or column != like:
                self.inputs.tell(column_words(what, found.encoding, embedding_column))
        return found


def _read_heldout(reading: _Reading, feature_map: FeatureMap, dim: int) -> HeldOut | None:
    """Return the held-out rows; None without any."""
    options = reading.settings.heldout
    rows = reading.inputs.rows("heldout", reading.settings)
    if rows is None:
        return None
    read = None if options.embedding_column is None else reading.rows("heldout")
    features = None if read is None else _to_features(feature_map, read.embeddings, dim, "heldout")
    return read_heldout(rows, options, features, None if read is None else read.digest)


def _leaks(heldout: HeldOut | None, targets: Tensor, known: Tensor | None) -> list[str]:
    """Return a sentence where targets or known rows are nearly equal to held-out ones: no exclusion can mend that."""
    if heldout is None:
        return []
    told = []
    for name, rows in (("targets", targets), ("known rows", known)):
        count = 0 if rows is None else overlap_with(heldout, rows)
        if count and rows is not None:
            told.append(
                f"{count:,} of {len(rows):,} {name} are nearly equal to held-out rows: a test on those flatters the "
                "model; leave them out on one side"
            )
    return told


def _to_features(feature_map: FeatureMap, embeddings: np.ndarray, dim: int, what: str) -> Tensor:
    if embeddings.shape[1] != dim:
        raise InputError(
            f"{what} embeddings have {embeddings.shape[1]} dimensions, the pool's have {dim}: embed both with the "
            f"same model, or set {what}.embedding_column"
        )
    return map_rows(feature_map, embeddings)
