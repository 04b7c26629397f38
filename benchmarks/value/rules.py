"""The rules that are compared, by name, and what they pick for each of many passages from rows in memory."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ray_itl.errors import ConfigError, InputError
from ray_itl.loaded.pool import LoadedPool, SelectionOptions
from ray_itl.training.seeds import derive_seed

FEATURES = {
    "rds": "by hidden states (RDS+)",
    "lora": "by gradients",
    "adam": "by gradients as Adam scales them (LESS)",
}
"""What a rule may see of rows in place of their embeddings."""
_NUMBER = r"@(\d+(?:\.\d+)?(?:e-?\d+)?)"
_NAME = re.compile(rf"(?:({'|'.join(FEATURES)})-)?(?:(random|nearest)|(vtl|itl){_NUMBER})(?:{_NUMBER})?")
_DECIMALS = 12
"""To which cosines are rounded before they are compared: rows that are equal tie, and the first of them wins."""
_AT_ONCE = 20_000
"""Rows that are compared with all tests at a time, for the sake of memory."""
ALIKE = 0.95
"""Cosine from which on two rows count as alike."""
UNLIKE = 0.95
"""Picks below this quantile of the pool's cosines to the target are unlike it."""


@dataclass(frozen=True)
class Rule:
    """How rows are picked."""

    kind: str
    """random, nearest, vtl or itl."""
    noise: float | None = None
    """Relative, of vtl and itl."""
    most: float | None = None
    """The cosine to an earlier pick at which a row is passed over; None: none is."""
    features: str | None = None
    """A key of `FEATURES`; None: embeddings."""

    @classmethod
    def parse(cls, name: str) -> Rule:
        """Read what `name` writes.

        Raises:
            ConfigError: it is no rule.
        """
        found = _NAME.fullmatch(name)
        noise, most = (float(found[k]) if found and found[k] else None for k in (4, 5))
        if not found or 0 in (noise, most) or (found[2] == "random" and (found[1] or most)):
            raise ConfigError(
                f"{name!r} is no rule: name random, nearest, vtl@NOISE or itl@NOISE, the last three also with @COSINE"
            )
        return cls(found[2] or found[3], noise, most, found[1])

    @property
    def name(self) -> str:
        """The rule in one word."""
        seen = "" if self.features is None else f"{self.features}-"
        return seen + self.kind + "".join(f"@{each:g}" for each in (self.noise, self.most) if each is not None)

    @property
    def words(self) -> str:
        """The rule as a reader of a table sees it."""
        return self._words if self.features is None else f"{self._words}, {FEATURES[self.features]}"

    @property
    def _words(self) -> str:
        unlike = "" if self.most is None else f", none like another at {self.most:g}"
        return (self.kind if self.noise is None else f"{self.kind.upper()}, noise {self.noise:g}") + unlike


@dataclass(frozen=True)
class Picked:
    """What a rule picked for one test."""

    rows: list[int]
    """Of the pool, in order."""
    seconds: float
    """The mean over the tests it picked for."""
    unlike: float
    """Share of the picks whose cosine to the target is below 95% of the pool's."""
    opposite: float
    """Share of the picks whose cosine to the target is negative."""
    alike: float
    """Share of the picks that are alike to an earlier pick."""
    copies: float
    """Share of the picks that are of the same origin as an earlier pick."""


@dataclass(frozen=True)
class Candidates:
    """The rows of a pool, and the tests for which rows are picked from it."""

    rows: np.ndarray
    """N x D float32 of norm 1."""
    origins: np.ndarray
    """N numbers; rows of the same number are copies of each other."""
    names: Sequence[str]
    """Of T tests; what is drawn for a test depends on nothing else."""
    targets: np.ndarray
    """T x D float32 of norm 1."""

    @cached_property
    def cosines(self) -> np.ndarray:
        """Of each test to all rows, T x N float64."""
        parts = [_cosines(part, self.targets).T for part in np.array_split(self.rows, len(self.rows) // _AT_ONCE + 1)]
        return np.concatenate(parts, axis=1)


def pick_for_all(rule: Rule, among: Candidates, loaded: LoadedPool, n: int, seed: int) -> list[Picked]:
    """Return what a rule picks for every test, each for itself.

    Args:
        rule: The rule.
        among: Rows and tests.
        loaded: The same rows.
        n: Rows to pick.
        seed: Of what is drawn.

    Raises:
        InputError: fewer than n rows are unlike each other.
    """
    cosines, began = among.cosines, time.perf_counter()
    if rule.noise is not None and rule.most is not None:
        apart = SelectionOptions(
            acquisition=rule.kind, relative_noise=rule.noise, min_distance=1 - rule.most, quiet=True
        )
        picks = [np.array(loaded.select(target[None], n, **apart).ids) for target in among.targets]
    elif rule.noise is not None:
        table = loaded.select_many(among.targets, n, acquisition=rule.kind, relative_noise=rule.noise)
        picks = list(table["id"].to_numpy().reshape(len(among.names), n))
    elif rule.kind == "random":
        picks = [
            np.random.default_rng(derive_seed(seed, "random", name)).choice(len(among.rows), n, replace=False)
            for name in among.names
        ]
    else:
        picks = [_nearest(among.rows, own, n, rule.most) for own in cosines]
    seconds = (time.perf_counter() - began) / len(picks)
    if (fewest := min(map(len, picks))) < n:
        limit = "" if rule.most is None else f" are less alike than {rule.most:g}"
        raise InputError(f"only {fewest} rows of a pool of {len(among.rows):,}{limit}: ask for fewer than {n}")
    return [_described(own, among, test, seconds) for test, own in enumerate(picks)]


def _nearest(rows: np.ndarray, own: np.ndarray, n: int, most: float | None) -> np.ndarray:
    order = np.argsort(-own, kind="stable")
    return order[:n] if most is None else distinct(rows, order, n, most)


def distinct(rows: np.ndarray, order: np.ndarray, n: int, most: float) -> np.ndarray:
    """Return the first n rows in an order of which each has a cosine below `most` to those before; all if fewer."""
    chosen: list[int] = []
    for row in order:
        if not chosen or _cosines(rows[chosen], rows[row][None]).max() < most:
            chosen.append(int(row))
            if len(chosen) == n:
                break
    return np.array(chosen)


def _cosines(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the cosines of N rows of norm 1 to T targets of norm 1: N x T float64."""
    return np.round(rows.astype(np.float64) @ targets.astype(np.float64).T, _DECIMALS)


def _described(picks: np.ndarray, among: Candidates, test: int, seconds: float) -> Picked:
    own, chosen = among.cosines[test], among.rows[picks]
    earlier = np.tril(np.ones((len(picks), len(picks)), dtype=bool), -1)
    same = among.origins[picks][:, None] == among.origins[picks]
    return Picked(
        rows=[int(row) for row in picks],
        seconds=seconds,
        unlike=float((own[picks] < np.quantile(own, UNLIKE)).mean()),
        opposite=float((own[picks] < 0).mean()),
        alike=float(((_cosines(chosen, chosen) >= ALIKE) & earlier).any(axis=1).mean()),
        copies=float((same & earlier).any(axis=1).mean()),
    )
