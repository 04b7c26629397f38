"""The shards of a pool: loaded together, called together, rebuilt when lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from ray_itl.cluster.waiting import RoomWatch
from ray_itl.distributed.codec import pack
from ray_itl.distributed.policy import Failure, RecoveryPolicy
from ray_itl.distributed.relay import Relay, Reply, group_shards
from ray_itl.distributed.shard_actor import ShardActor, ShardFacts
from ray_itl.distributed.shard_processes import ShardMember, ShardProcesses
from ray_itl.errors import ShardError
from ray_itl.shards.part import ShardPart
from ray_itl.sources.base import PoolSource

_INLINE_BYTES = 100_000
_POLL_S = 1.0


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
        self._recovery = recovery
        self._cluster = watch
        self._processes = ShardProcesses(members, policy, notify, watch, actor_class)
        self._relay = Relay(self._processes.get_all)
        self._source = ray.put(source)
        self._version = -1
        self._set_members(members)

    def start(self, on_rows: Callable[[int], None] | None = None) -> list[ShardFacts]:
        """Create the processes, in batches, and load all rows.

        Args:
            on_rows: Told about once a second how many rows are loaded so far, over all shards.

        Raises:
            InputError: unreadable or bad rows.
            ShardError: no place on the cluster within the deadline, or processes that keep dying.
        """
        with self._open():
            self._processes.start()
            return self._load_all(on_rows)

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
        self._processes.check_open()
        if not self._processes.actors:
            raise ShardError("the pool has no processes yet: load it first")
        with self._open():
            self._source = ray.put(source)
            self._set_members(members)
            return self._load_all(on_rows)

    def narrow(self, source: PoolSource, parts: Sequence[ShardPart], number: int) -> list[ShardFacts]:
        """Let shards use parts of their rows from now on; one that is lost loads its rows and narrows them anew.

        Args:
            source: The same rows, with all columns that the parts look at.
            parts: One for each shard.
            number: Of this change, from 1.

        Raises:
            ShardError: processes that keep dying.
        """
        with self._open():
            self._source = ray.put(source)
            self._specs = [
                pack(replace(member.spec, version=self._version, part=part, part_number=number))
                for member, part in zip(self._processes.members, parts, strict=True)
            ]
            return self._load_all(None)

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method on every shard and return the replies in the order of the shards.

        Raises:
            RayItlError: what a shard raised, in its own class.
            ShardError: a shard could not be rebuilt, or failed in an unforeseen way.
        """
        return self.call_each(method, [arguments] * len(self._processes.members))

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As `call`, with arguments for each shard."""

        def send(index: int) -> ObjectRef:
            return getattr(self._processes.actors[index], method).remote(*arguments[index])

        with self._open():
            return self._collect(range(len(self._processes.members)), send)

    def call_merged(self, method: str, message: Any) -> list[Reply]:
        """As `call`, for a method of `relay.MERGES`: where shards are many, a reply may be of several in a row."""
        if len(group_shards(len(self._processes.members))) == len(self._processes.members):
            return self.call(method, message)
        with self._open():
            found = self._relay.call(self._processes.actors, method, message)
            lost = [index for index, reply in found if reply is None]
            again = self._collect(lost, lambda index: getattr(self._processes.actors[index], method).remote(message))
            others = dict(zip(lost, again, strict=True))
            return [others[index] if reply is None else reply for index, reply in found]

    def submit(self, method: str, num_returns: int, *arguments: Any) -> list[list[ObjectRef]]:
        """Call a method that returns several objects, without waiting and without recovery."""
        self._processes.check_open()
        return [getattr(a, method).options(num_returns=num_returns).remote(*arguments) for a in self._processes.actors]

    @property
    def rebuilds(self) -> int:
        """How many shards were rebuilt so far."""
        return self._processes.rebuilds

    def close(self) -> None:
        """Kill this crew's processes; nothing else on the cluster is touched. May be called again."""
        self._processes.close()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Have the processes do something together: an error that gets this far ends the crew."""
        self._processes.check_open()
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _set_members(self, members: Sequence[ShardMember]) -> None:
        """Make what these members load what every process loads from now on, also when it is rebuilt."""
        self._version += 1
        self._processes.members = list(members)
        self._specs = [pack(replace(member.spec, version=self._version)) for member in members]

    def _load_all(self, on_rows: Callable[[int], None] | None) -> list[ShardFacts]:
        refs = [self._load(index) for index in range(len(self._processes.members))]
        if on_rows is not None:
            self._watch(refs, on_rows)
        return self._results(range(len(refs)), refs, self._load)

    def _load(self, index: int) -> ObjectRef:
        return self._processes.actors[index].load.remote(self._source, self._specs[index])

    def _watch(self, refs: list[ObjectRef], on_rows: Callable[[int], None]) -> None:
        """Report progress until every load has ended, well or not."""
        pending = refs
        while pending:
            _, pending = ray.wait(pending, num_returns=len(pending), timeout=_POLL_S, fetch_local=False)
            self._cluster.look()
            counts = [actor.loaded_rows.remote(self._version) for actor in self._processes.actors]
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
            return self._processes.get_all(refs)
        except RayError:
            recovery, sent = self._recovery(), dict(zip(indices, refs, strict=True))
            shipped = None if recovery is None else put(recovery)
            return self._processes.in_parallel(lambda index: self._result(index, sent[index], send, shipped), indices)

    def _result(self, index: int, ref: ObjectRef, send: Callable[[int], ObjectRef], recovery: Any) -> Any:
        """Return one shard's answer, rebuilding the shard as often as the policy allows."""
        rebuilds, pending = 0, [ref]
        while True:
            answer = self._processes.answer(index, pending)
            if not isinstance(answer, Failure):
                return answer
            self._processes.after_failure(index, answer, rebuilds)
            rebuilds += 1
            self._processes.await_process(index)
            pending = [self._load(index)]
            if recovery is not None:
                pending.append(self._processes.actors[index].restore.remote(recovery))
            pending.append(send(index))
