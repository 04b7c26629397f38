"""The processes behind a pool: started together, called together, rebuilt when lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import GetTimeoutError, RayError

from ray_itl.cluster.waiting import RoomWatch
from ray_itl.distributed.codec import pack
from ray_itl.distributed.failures import classify
from ray_itl.distributed.policy import Failure, FailureKind, GiveUp, RecoveryPolicy
from ray_itl.distributed.relay import Relay, Reply, group_shards
from ray_itl.distributed.shard_actor import ShardActor, ShardFacts, ShardSpec
from ray_itl.errors import NoRoomError, ShardError
from ray_itl.shards.part import ShardPart
from ray_itl.sources.base import PoolSource

_INLINE_BYTES = 100_000
_START_BATCH = 64
_POLL_S = 1.0
_LOOK_S = 5.0
"""How often the head and the room for lost shards are looked at while something is awaited."""


@dataclass(frozen=True)
class ShardMember:
    """What one shard loads, and what its process asks of the cluster (options of a Ray actor)."""

    name: str
    spec: ShardSpec
    options: dict[str, Any]


def put(message: Any) -> Any:
    """Pack a message for any number of shards; a large one is put into the object store once."""
    packed = pack(message)
    return packed if packed.num_bytes <= _INLINE_BYTES else ray.put(packed)


class ShardGroup:
    """One Ray actor for each member, with results in the order of members whatever order they finish in.

    A call to a shard that died, or that answers StaleShardError, is repeated after the shard was rebuilt by
    `recovery`. Any other error ends the crew: its own actors are killed, and the error is raised.
    """

    def __init__(
        self,
        source: PoolSource,
        members: Sequence[ShardMember],
        policy: RecoveryPolicy,
        recovery: Callable[[], Any],
        notify: Callable[[str], None],
        watch: RoomWatch,
        actor_class: type[ShardActor] = ShardActor,
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            source: The rows; goes to the object store once.
            members: The shards in order of position.
            policy: When to rebuild and when to give up.
            recovery: Returns the Recovery for the call in progress, or None when shards need only their rows.
            notify: Told, in a line, about every lost shard.
            watch: Looks after the cluster while shards are awaited.
            actor_class: What runs in the processes.
        """
        self._policy = policy
        self._recovery = recovery
        self._notify = notify
        self._cluster = watch
        groups: dict[str, Any] = {"concurrency_groups": {"health": 2, "relay": 1}}
        self._actor_class = ray.remote(**groups)(actor_class)
        self._source = ray.put(source)
        self._version = -1
        self._set_members(members)
        self._actors: list[Any] = []
        self._lock = threading.Lock()
        self._closed = False
        self._relay = Relay(self._get_all)
        self.rebuilds = 0

    def start(self, on_rows: Callable[[int], None] | None = None) -> list[ShardFacts]:
        """Create the processes, in batches, and load all rows.

        Args:
            on_rows: Told about once a second how many rows are loaded so far, over all shards.

        Raises:
            InputError: unreadable or bad rows.
            ShardError: no place on the cluster within the deadline, or processes that keep dying.
        """
        try:
            for first in range(0, len(self._members), _START_BATCH):
                batch = range(first, min(first + _START_BATCH, len(self._members)))
                self._actors += [self._create(index) for index in batch]
                self._in_parallel(self._await_process, batch)
            return self._load_all(on_rows)
        except BaseException:
            self.close()
            raise

    def reload(
        self, source: PoolSource, members: Sequence[ShardMember], on_rows: Callable[[int], None] | None = None
    ) -> list[ShardFacts]:
        """Let the living processes load other rows in place of theirs; one that dies meanwhile loads the new ones.

        Args:
            source: The rows from now on.
            members: As many as before, and with the options of before.
            on_rows: As for `start`.

        Raises:
            InputError: unreadable or bad rows.
            ShardError: nothing was started, or processes that keep dying.
        """
        self._check_open()
        if not self._actors:
            raise ShardError("the pool has no processes yet: load it first")
        try:
            self._source = ray.put(source)
            self._set_members(members)
            return self._load_all(on_rows)
        except BaseException:
            self.close()
            raise

    def narrow(self, source: PoolSource, parts: Sequence[ShardPart], number: int) -> list[ShardFacts]:
        """Let shards use parts of their rows from now on; one that is lost loads its rows and narrows them anew.

        Args:
            source: The same rows, with all columns that the parts look at.
            parts: One for each shard.
            number: Of this change, from 1.

        Raises:
            ShardError: processes that keep dying.
        """
        self._check_open()
        try:
            self._source = ray.put(source)
            self._specs = [
                pack(replace(member.spec, version=self._version, part=part, part_number=number))
                for member, part in zip(self._members, parts, strict=True)
            ]
            return self._load_all(None)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method on every shard and return the replies in the order of the shards.

        Raises:
            RayItlError: what a shard raised, in its own class.
            ShardError: a shard could not be rebuilt, or failed in an unforeseen way.
        """
        return self.call_each(method, [arguments] * len(self._members))

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As `call`, with arguments for each shard."""

        def send(index: int) -> ObjectRef:
            return getattr(self._actors[index], method).remote(*arguments[index])

        self._check_open()
        try:
            return self._collect(range(len(self._members)), send)
        except BaseException:
            self.close()
            raise

    def call_merged(self, method: str, message: Any) -> list[Reply]:
        """As `call`, for a method of `relay.MERGES`: where shards are many, a reply may be of several in a row."""
        if len(group_shards(len(self._members))) == len(self._members):
            return self.call(method, message)
        self._check_open()
        try:
            found = self._relay.call(self._actors, method, message)
            lost = [index for index, reply in found if reply is None]
            again = self._collect(lost, lambda index: getattr(self._actors[index], method).remote(message))
            others = dict(zip(lost, again, strict=True))
            return [others[index] if reply is None else reply for index, reply in found]
        except BaseException:
            self.close()
            raise

    def submit(self, method: str, num_returns: int, *arguments: Any) -> list[list[ObjectRef]]:
        """Call a method that returns several objects, without waiting and without recovery."""
        self._check_open()
        return [getattr(a, method).options(num_returns=num_returns).remote(*arguments) for a in self._actors]

    def close(self) -> None:
        """Kill this crew's processes; nothing else on the cluster is touched. May be called again."""
        with self._lock:
            actors, self._closed = [] if self._closed else self._actors, True
        for actor in actors:
            ray.kill(actor, no_restart=True)

    def _set_members(self, members: Sequence[ShardMember]) -> None:
        """Make what these members load what every process loads from now on, also when it is rebuilt."""
        self._version += 1
        self._members = list(members)
        self._specs = [pack(replace(member.spec, version=self._version)) for member in members]

    def _load_all(self, on_rows: Callable[[int], None] | None) -> list[ShardFacts]:
        refs = [self._load(index) for index in range(len(self._members))]
        if on_rows is not None:
            self._watch(refs, on_rows)
        return self._results(range(len(refs)), refs, self._load)

    def _check_open(self) -> None:
        if self._closed:
            raise ShardError("the pool is closed: make a new one")

    def _create(self, index: int) -> Any:
        return self._actor_class.options(
            **self._members[index].options, scheduling_strategy="SPREAD", max_restarts=-1, max_task_retries=0
        ).remote()

    def _replace(self, index: int) -> None:
        with self._lock:
            self._check_open()
            self._actors[index] = self._create(index)

    def _load(self, index: int) -> ObjectRef:
        return self._actors[index].load.remote(self._source, self._specs[index])

    def _watch(self, refs: list[ObjectRef], on_rows: Callable[[int], None]) -> None:
        """Report progress until every load has ended, well or not."""
        pending = refs
        while pending:
            _, pending = ray.wait(pending, num_returns=len(pending), timeout=_POLL_S, fetch_local=False)
            self._cluster.look()
            counts = [actor.loaded_rows.remote(self._version) for actor in self._actors]
            ready, _ = ray.wait(counts, num_returns=len(counts), timeout=_POLL_S)
            try:
                on_rows(sum(ray.get(ready)))
            except RayError:
                continue  # a shard died; its load is repeated when the results are collected

    def _collect(self, indices: Sequence[int], send: Callable[[int], ObjectRef]) -> list[Any]:
        """Call some shards; see `_results`."""
        return self._results(indices, [send(index) for index in indices], send)

    def _results(
        self, indices: Sequence[int], refs: Sequence[ObjectRef], send: Callable[[int], ObjectRef]
    ) -> list[Any]:
        """Return the results of calls, in order; a failed one is sent again once its shard was rebuilt."""
        try:
            return self._get_all(refs)
        except RayError:
            recovery, sent = self._recovery(), dict(zip(indices, refs, strict=True))
            shipped = None if recovery is None else put(recovery)
            return self._in_parallel(lambda index: self._result(index, sent[index], send, shipped), indices)

    def _get_all(self, refs: Sequence[ObjectRef]) -> list[Any]:
        """Return all results if they come in time; looks after the cluster meanwhile."""
        deadline = time.monotonic() + self._policy.restart_deadline_s
        while True:
            try:
                return ray.get(list(refs), timeout=max(0.0, min(_LOOK_S, deadline - time.monotonic())))
            except GetTimeoutError:
                self._cluster.look()
                if time.monotonic() >= deadline:
                    raise

    def _in_parallel(self, work: Callable[[int], Any], indices: Sequence[int]) -> list[Any]:
        """Wait for shards side by side, so that several lost ones are rebuilt at once."""
        with ThreadPoolExecutor(len(indices)) as threads:
            try:
                return list(threads.map(work, indices))
            except BaseException:
                self.close()  # lets the other threads end
                raise

    def _result(self, index: int, ref: ObjectRef, send: Callable[[int], ObjectRef], recovery: Any) -> Any:
        """Return one shard's answer, rebuilding the shard as often as the policy allows."""
        rebuilds, pending = 0, [ref]
        while True:
            answer = self._answer(index, pending)
            if not isinstance(answer, Failure):
                return answer
            self._after_failure(index, answer, rebuilds)
            rebuilds += 1
            self._await_process(index)
            pending = [self._load(index)]
            if recovery is not None:
                pending.append(self._actors[index].restore.remote(recovery))
            pending.append(send(index))

    def _answer(self, index: int, pending: list[ObjectRef]) -> Any:
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
                        self._await_process(index)
                        asked = time.monotonic()
                except RayError as error:
                    return classify(error)
        return result

    def _after_failure(self, index: int, failure: Failure, rebuilds: int) -> None:
        """Raise unless the shard can be rebuilt; give it a new process if Ray will not."""
        if failure.error is not None:
            raise failure.error
        self._check_open()
        decision = self._policy.after_call(self._members[index].name, failure, rebuilds)
        if isinstance(decision, GiveUp):
            raise ShardError(decision.message)
        self._cluster.look()
        with self._lock:
            self.rebuilds += 1
            self._notify(f"{self._members[index].name} was lost ({failure.reason}): rebuilding it")
        if decision.replace:
            self._replace(index)

    def _await_process(self, index: int) -> None:
        """Wait until the shard's process answers; it may have lost everything."""
        begin, deaths, failure = time.monotonic(), 0, None
        while True:
            ready = self._probe(index, begin)
            answer = self._answer(index, ready) if ready else None
            if ready and not isinstance(answer, Failure):
                self._cluster.over()
                return
            failure = answer or failure
            if answer is not None and answer.kind is not FailureKind.UNAVAILABLE:
                self._after_failure(index, answer, deaths)
                deaths += 1
            name, waited_s = self._members[index].name, time.monotonic() - begin
            decision = self._policy.while_waiting(name, failure, waited_s)
            if isinstance(decision, GiveUp):
                lack = self._cluster.why_not(self._actors[index])
                raise ShardError(decision.message) if lack is None else NoRoomError(self._policy.no_room(name, lack))
            self._cluster.look_for(self._actors[index], waited_s)
            time.sleep(decision.pause_s)

    def _probe(self, index: int, begin: float) -> list[ObjectRef]:
        """Ask the shard's process for a sign of life; return the answer once it is there, or nothing if none comes."""
        probe = self._actors[index].pid.remote()
        while True:
            waited_s = time.monotonic() - begin
            left = self._policy.restart_deadline_s - waited_s
            ready, _ = ray.wait([probe], timeout=max(0.0, min(left, _LOOK_S)))
            if ready or left <= 0:
                return ready
            self._cluster.look_for(self._actors[index], waited_s)
