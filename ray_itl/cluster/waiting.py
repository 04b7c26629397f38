"""Waiting for room on a cluster: said at once and again, over as soon as there is room, and ended by a deadline."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ray.util import placement_group, remove_placement_group

from ray_itl.cluster.head import HeadWatch, can_grow
from ray_itl.cluster.nodes import free_nodes, has_place, held_by_this_actor, living_nodes
from ray_itl.cluster.room import Reminder, RoomAsked, amounts, fit_beside, lacking, places_on, waiting_line
from ray_itl.errors import ConfigError, NoRoomError, ShardError

Tell = Callable[[str | None], None]
"""Told, in a line, what is waited for; None: no longer."""
_FIRST_S, _LOOK_S = 1.0, 2.0
_WATCH_S = 5.0
_GRACE_S = 5.0
"""How long a process may take to find a place where there is one."""
_RELEASE_S, _RELEASE_TRIES = 0.1, 20
_NESTED_S = 60.0
"""The longest that is waited in an actor: what it waits for may be what it holds itself."""


def await_room(asked: RoomAsked, tell: Tell, remedy: str) -> None:
    """Return once there is room for all processes at the same time; nothing is held afterwards.

    The wish is put to the cluster as such (a placement group), so that an autoscaler sees it, and so that this and
    others' wishes do not wait for each other with half of their room each.

    Args:
        asked: Who is to run.
        tell: Told in lines what is waited for.
        remedy: What a user can do about it, besides waiting.

    Raises:
        NoRoomError: no room within the deadline: others hold it, or this very actor.
        ConfigError: the cluster is too small, and no node joined in time.
        ShardError: the head is gone.
    """
    asked = _in_this_actor(asked, remedy)
    needs = {name: need for name, need in asked.needs.items() if need > 0}
    if not needs:
        return
    group = placement_group([needs] * asked.count, strategy="SPREAD")
    reminder, head, began, told = Reminder(), HeadWatch(), time.monotonic(), False
    try:
        while not group.wait(_FIRST_S if not told else _LOOK_S):
            head.check()
            waited_s = time.monotonic() - began
            if waited_s >= asked.deadline_s:
                raise no_room(asked, remedy)
            if reminder.is_due(waited_s):
                tell(waiting_line(asked, lacking(asked, living_nodes(), free_nodes()), waited_s))
                told = True
    finally:
        remove_placement_group(group)
    _await_release(asked)
    if told:
        tell(None)


def _await_release(asked: RoomAsked) -> None:
    """Wait a moment for what was held by the wish itself, so that those who asked meet nobody there."""
    for _ in range(_RELEASE_TRIES):
        if places_on(free_nodes(), asked.needs) >= asked.count:
            return
        time.sleep(_RELEASE_S)


def no_room(asked: RoomAsked, remedy: str) -> NoRoomError | ConfigError:
    """Return the error for processes that found no room in time."""
    nodes = living_nodes()
    message = (
        f"no room on the cluster within {asked.deadline_option}={asked.deadline_s:g} seconds: {asked.words}, but "
        f"{lacking(asked, nodes, free_nodes())}: "
    )
    if not fit_beside(nodes, [(asked.count, asked.needs)]):
        return ConfigError(f"{message}add nodes, or {remedy}")
    return NoRoomError(f"{message}try again later, add nodes, or {remedy}")


def _in_this_actor(asked: RoomAsked, remedy: str) -> RoomAsked:
    """Return what is asked with a nearer deadline where this process is an actor, which may be in its own way.

    Raises:
        ConfigError: it is for certain.
    """
    held = {name: amount for name, amount in held_by_this_actor().items() if asked.needs.get(name, 0) > 0}
    if not held:
        return asked
    words = f"this process is an actor that holds {amounts(held)} itself as long as it lives"
    nodes = living_nodes()
    for_certain = not fit_beside(nodes, [(1, held), (asked.count, asked.needs)])
    if for_certain and not can_grow():
        raise ConfigError(f"{asked.words}, but {words}: give that actor num_cpus=0, or {remedy}")
    return replace(asked, deadline_s=min(asked.deadline_s, _NESTED_S), beside=words)


@contextmanager
def watched_head() -> Iterator[None]:
    """Watch the head in a thread while a `with` block of the main thread waits for what has no deadline of its own.

    Raises:
        ShardError: the head is gone.
    """
    head, over = HeadWatch(), threading.Event()
    lost: list[ShardError] = []

    def watch() -> None:
        while not over.wait(_WATCH_S):
            try:
                head.check()
            except ShardError as error:
                lost.append(error)
                _thread.interrupt_main()  # the only way out of a call that waits in Ray
                return

    in_main = threading.current_thread() is threading.main_thread()
    thread = threading.Thread(target=watch, name="head", daemon=True)
    if in_main:
        thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if lost:
            raise lost[0] from None
        raise
    finally:
        over.set()


class RoomWatch:
    """Looks, while processes are awaited that were placed before, whether the head lives and room is what they lack."""

    def __init__(self, asked: RoomAsked, tell: Tell, remedy: str) -> None:
        """Know all processes, whose number and needs `asked` has, and whom to tell."""
        self._asked = asked
        self._tell = tell
        self._remedy = remedy
        self._head = HeadWatch()
        self._lock = threading.Lock()
        self._reminder = Reminder()
        self._told = False

    def look(self) -> None:
        """Check that the head lives. ShardError if not."""
        self._head.check()

    def look_for(self, actor: Any, waited_s: float) -> None:
        """Look after an actor that has not answered for a time, and tell, now and then, that it finds no place.

        Raises:
            ShardError: the head is gone.
        """
        self._head.check()
        if waited_s < _GRACE_S or not self._lock.acquire(blocking=False):  # one thread for all is enough
            return
        try:
            why = self.why_not(actor)
            if why is not None and self._reminder.is_due(waited_s):
                self._tell(waiting_line(replace(self._asked, count=1), why, waited_s))
                self._told = True
        finally:
            self._lock.release()

    def why_not(self, actor: Any) -> str | None:
        """Say why an actor has no place; None if it has one, or there is room and it will."""
        if has_place(actor):
            return None
        nodes, free = living_nodes(), free_nodes()
        if places_on(free, self._asked.needs):
            return None
        return lacking(self._asked, nodes, free, ours=self._asked.count - 1)

    def over(self) -> None:
        """An actor has answered."""
        with self._lock:
            told, self._told, self._reminder = self._told, False, Reminder()
        if told:
            self._tell(None)
