"""The queries: which target rows belong to each."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
import torch

from ray_itl.core.posterior import Targets
from ray_itl.curation.inputs import Inputs
from ray_itl.curation.pool_rows import encoder_of
from ray_itl.curation.problem import Problem
from ray_itl.curation.settings import CurationSettings
from ray_itl.errors import InputError
from ray_itl.sources.encoding import RawColumn
from ray_itl.sources.targets import read_targets


@dataclass(frozen=True)
class Queries:
    """Q queries, in the order in which they first come."""

    names: pa.Array
    """As the column has them, Q."""
    targets: list[Targets]
    """In feature space."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def digest(self) -> str:
        """What tells these queries from others, their targets apart."""
        sizes = [len(each.rows) for each in self.targets]
        return sha256(repr((self.names.to_pylist(), sizes)).encode()).hexdigest()


def query_identity(settings: CurationSettings, queries: Queries) -> dict[str, str]:
    """Return name -> digest or value of what decides the picks of queries, besides what decides those of any run."""
    return {"queries": queries.digest, "selection.nearest": repr(settings.selection.nearest)}


def read_queries(problem: Problem, settings: CurationSettings, inputs: Inputs) -> Queries:
    """Return the queries of a problem that was opened with all targets.

    Raises:
        InputError: the column is not there, or a row has none; or all targets of a query weigh nothing.
    """
    column = settings.target.query_column
    assert column is not None
    encoder = None if settings.encoder.name is None else encoder_of(settings, inputs)
    read = read_targets(
        inputs.rows("target", settings),
        raw=None if encoder is None else RawColumn(encoder, settings.target.text_column, "target.text_column"),
        embedding_column=settings.target.embedding_column,
        task_column=column,
        group="target",
        task_word="query",
    )
    assert read.task_column is not None
    encoded = read.task_column.combine_chunks().dictionary_encode()
    numbers = encoded.indices.to_numpy()
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(1, len(encoded.dictionary)))
    targets = []
    for number, members in enumerate(np.split(order, ends)):
        at = torch.from_numpy(members)
        targets.append(Targets(problem.targets.rows[at], problem.targets.weights[at]))
        if not bool((targets[-1].weights > 0).any()):
            raise InputError(
                f"targets: all rows of query {encoded.dictionary[number].as_py()!r} have weight 0; give one a positive "
                "weight, or leave the query out"
            )
    return Queries(encoded.dictionary, targets)
