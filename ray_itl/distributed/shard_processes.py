"""The processes of shards: one Ray actor each, watched, and replaced when lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayError

from ray_itl.cluster.waiting import RoomWatch
from ray_itl.distributed.failures import classify
from ray_itl.distributed.policy import Failure, FailureKind, GiveUp, RecoveryPolicy
from ray_itl.distributed.shard_actor import ShardActor, ShardSpec
from ray_itl.errors import NoRoomError, ShardError

_START_BATCH = 64
_LOOK_S = 5.0
"""How often the head and the room for lost shards are looked at while something is awaited."""


@dataclass(frozen=True)
class ShardMember:
    """What one shard loads, and what its process asks of the cluster (options of a Ray actor)."""

    name: str
    spec: ShardSpec
    options: dict[str, Any]


class ShardProcesses:
    """An actor for each member, in their order; what is in a process that died is its caller's to restore."""

    def __init__(
        self,
        members: Sequence[ShardMember],
        policy: RecoveryPolicy,
        notify: Callable[[str], None],
        watch: RoomWatch,
        actor_class: type[ShardActor],
    ) -> None:
        """Prepare; nothing runs before `start`. See `ShardGroup` for what each is."""
        self.members = list(members)
        self._policy = policy
        self._notify = notify
        self._cluster = watch
        groups: dict[str, Any] = {"concurrency_groups": {"health": 2, "relay": 1}}
        self._actor_class = ray.remote(**groups)(actor_class)
        self._lock = threading.Lock()
        self._closed = False
        self.actors: list[Any] = []
        self.rebuilds = 0

    def start(self) -> None:
        """Create all processes, in batches, and wait until each answers."""
        for first in range(0, len(self.members), _START_BATCH):
            batch = range(first, min(first + _START_BATCH, len(self.members)))
            self.actors += [self._create(index) for index in batch]
            self.in_parallel(self.await_process, batch)

    def close(self) -> None:
        """Kill these processes; nothing else on the cluster is touched. May be called again."""
        with self._lock:
            actors, self._closed = [] if self._closed else self.actors, True
        for actor in actors:
            ray.kill(actor, no_restart=True)

    def check_open(self) -> None:
        """Raise ShardError once this has been closed."""
        if self._closed:
            raise ShardError("the pool is closed: make a new one")

    def get_all(self, refs: Sequence[ObjectRef]) -> list[Any]:
        """Return all results if they come in time; looks after the cluster meanwhile."""
        deadline = time.monotonic() + self._policy.restart_deadline_s
        while True:
            try:
                return ray.get(list(refs), timeout=max(0.0, min(_LOOK_S, deadline - time.monotonic())))
            except GetTimeoutError:
                self._cluster.look()
                if time.monotonic() >= deadline:
                    raise

    def in_parallel(self, work: Callable[[int], Any], indices: Sequence[int]) -> list[Any]:
        """Wait for shards side by side, so that several lost ones are rebuilt at once."""
        with ThreadPoolExecutor(len(indices)) as threads:
            try:
                return list(threads.map(work, indices))
            except BaseException:
                self.close()  # lets the other threads end
                raise

    def answer(self, index: int, pending: list[ObjectRef]) -> Any:
        """Wait for calls to one shard for as long as its process lives; return the first Failure or the last result."""
        result = None
        for ref in pending:
            asked, answered = time.monotonic(), False
            while not answered:
                try:
                    # Never without a timeout: an answer that was there may be lost with its node before it is fetched.
                    result, answered = ray.get(ref, timeout=min(_LOOK_S, self._policy.restart_deadline_s)), True
                except GetTimeoutError:
                    self._cluster.look()
                    if time.monotonic() - asked >= self._policy.restart_deadline_s:
                        self.await_process(index)
                        asked = time.monotonic()
                except RayError as error:
                    return classify(error)
        return result

    def after_failure(self, index: int, failure: Failure, rebuilds: int) -> None:
        """Raise unless the shard can be rebuilt; give it a new process if Ray will not."""
        if failure.error is not None:
            raise failure.error
        self.check_open()
        decision = self._policy.after_call(self.members[index].name, failure, rebuilds)
        if isinstance(decision, GiveUp):
            raise ShardError(decision.message)
        self._cluster.look()
        with self._lock:
            self.rebuilds += 1
            self._notify(f"{self.members[index].name} was lost ({failure.reason}): rebuilding it")
        if decision.replace:
            self._replace(index)

    def await_process(self, index: int) -> None:
        """Wait until the shard's process answers; it may have lost everything."""
        begin, deaths, failure = time.monotonic(), 0, None
        while True:
            ready = self._probe(index, begin)
            answer = self.answer(index, ready) if ready else None
            if ready and not isinstance(answer, Failure):
                self._cluster.over()
                return
            failure = answer or failure
            if answer is not None and answer.kind is not FailureKind.UNAVAILABLE:
                self.after_failure(index, answer, deaths)
                deaths += 1
            name, waited_s = self.members[index].name, time.monotonic() - begin
            decision = self._policy.while_waiting(name, failure, waited_s)
            if isinstance(decision, GiveUp):
                lack = self._cluster.why_not(self.actors[index])
                raise ShardError(decision.message) if lack is None else NoRoomError(self._policy.no_room(name, lack))
            self._cluster.look_for(self.actors[index], waited_s)
            time.sleep(decision.pause_s)

    def _create(self, index: int) -> Any:
        return self._actor_class.options(
            **self.members[index].options, scheduling_strategy="SPREAD", max_restarts=-1, max_task_retries=0
        ).remote()

    def _replace(self, index: int) -> None:
        with self._lock:
            self.check_open()
            self.actors[index] = self._create(index)

    def _probe(self, index: int, begin: float) -> list[ObjectRef]:
        """Ask the shard's process for a sign of life; return the answer once it is there, or nothing if none comes."""
        probe = self.actors[index].pid.remote()
        while True:
            waited_s = time.monotonic() - begin
            left = self._policy.restart_deadline_s - waited_s
            ready, _ = ray.wait([probe], timeout=max(0.0, min(left, _LOOK_S)))
            if ready or left <= 0:
                return ready
            self._cluster.look_for(self.actors[index], waited_s)
