"""Passes over many shards by way of some of them, which merge what the others of their group say.

A call costs the driver about half a millisecond, whatever it carries: it is Ray's own work for a call and its result,
and hundreds of shards would hold up every pass. So beyond a few shards the driver calls the first of each group of
about sqrt(N), which calls all of its group and merges their replies: the driver makes sqrt(N) calls, and so do these.

Only calls that a shard refuses to answer twice (StaleShardError) go this way. Where a group's first shard is lost with
the replies of others, these are called again by the driver, refuse, and are rebuilt as lost shards are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from ray_itl.core.pool import merge_reports
from ray_itl.distributed.codec import Packed, pack, unpack

DIRECT = 16
"""Up to so many shards are called one by one."""
MERGES: dict[str, Callable[[list[Any]], Any]] = {"verify": merge_reports, "search_exactly": max}
"""Methods of a shard that go by way of others, and how their results are merged, in the order of the shards."""


@dataclass(frozen=True)
class PassTime:
    """Rows and seconds of one pass, as the shard saw it."""

    num_rows: int
    seconds: float


@dataclass(frozen=True)
class Reply:
    """A packed result and how long it took, or that of several shards, merged."""

    result: Packed
    times: tuple[PassTime, ...]
    """Of each shard."""


@dataclass(frozen=True)
class GroupReply:
    """What a group says: one reply of all, or, where some did not answer, one of each, and None of those."""

    replies: tuple[Reply | None, ...]


def group_shards(num_shards: int) -> list[range]:
    """Return which shards are called together, in order: each alone up to `DIRECT`, else some sqrt(N) of them."""
    size = 1 if num_shards <= DIRECT else math.isqrt(num_shards - 1) + 1
    return [range(first, min(first + size, num_shards)) for first in range(0, num_shards, size)]


def call_group(group: Sequence[Any], method: str, message: Any) -> GroupReply:
    """Call a method of `MERGES` on the shards of a group, in one of their processes."""
    replies = [_reply(ref) for ref in [getattr(actor, method).remote(message) for actor in group]]
    there = [reply for reply in replies if reply is not None]
    if len(there) < len(replies):
        return GroupReply(tuple(replies))
    merged = MERGES[method]([unpack(reply.result) for reply in there])
    return GroupReply((Reply(pack(merged), tuple(time for reply in there for time in reply.times)),))


def _reply(ref: ObjectRef) -> Reply | None:
    """Return what one shard answered; of one that failed the driver finds out why."""
    try:
        return ray.get(ref)
    except RayError:
        return None


class Relay:
    """The driver's side."""

    def __init__(self, get: Callable[[list[ObjectRef]], list[Any]]) -> None:
        """Take how to wait for results."""
        self._get = get
        self._led: list[Any] = []

    def call(self, actors: Sequence[Any], method: str, message: Any) -> list[tuple[int, Reply | None]]:
        """Call a method of `MERGES` on all shards.

        Returns:
            Replies in the order of the shards, each with the first shard that it is of; None for a shard of which no
            reply came.
        """
        groups = group_shards(len(actors))
        if self._led != list(actors):
            for group in groups:
                actors[group[0]].lead.remote([actors[index] for index in group])
            self._led = list(actors)
        # In a list: else Ray would hand over what a reference refers to, to be sent to each shard anew.
        refs = [actors[group[0]].relay.remote(method, [message]) for group in groups]
        found: list[tuple[int, Reply | None]] = []
        for group, answer in zip(groups, self._answers(refs), strict=True):
            replies = (None,) * len(group) if answer is None else answer.replies
            found += zip(group, replies, strict=False)  # one merged reply is of all
        if any(reply is None for _, reply in found):
            self._led = []  # a process that was lost knows no group
        return found

    def _answers(self, refs: list[ObjectRef]) -> list[GroupReply | None]:
        try:
            return self._get(refs)
        except RayError:
            return [self._answer(ref) for ref in refs]

    def _answer(self, ref: ObjectRef) -> GroupReply | None:
        try:
            return self._get([ref])[0]
        except RayError:
            return None
