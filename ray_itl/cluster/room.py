"""Room on a cluster: what processes ask of its nodes, what is free, and what to say while it is not enough. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray_itl.text import format_size, plural

Nodes = Sequence[Mapping[str, float]]
"""Resources of every node by Ray's names ("CPU", "GPU", "memory" in bytes)."""
_EPSILON = 1e-6
_PLENTY = 10**6
"""Processes that ask for nothing have room anywhere."""
_SOON_S, _EVERY_S, _GROWTH = 10.0, 15.0, 0.2


def places(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """Return how many processes with these needs a node has room for."""
    return min((int(node.get(name, 0) / need + _EPSILON) for name, need in needs.items() if need > 0), default=_PLENTY)


def places_on(nodes: Nodes, needs: Mapping[str, float]) -> int:
    """Return how many processes with these needs some nodes have room for."""
    return sum(places(node, needs) for node in nodes)


def without(node: Mapping[str, float], needs: Mapping[str, float]) -> dict[str, float]:
    """Return what a node has left beside a process with these needs."""
    return {name: amount - needs.get(name, 0) for name, amount in node.items()}


def fit_beside(nodes: Nodes, groups: Sequence[tuple[int, Mapping[str, float]]]) -> bool:
    """Whether groups of processes (how many, and the needs of each) have room together.

    The largest are placed first, each on the node that then has least left: no wrong yes, and hardly a wrong no.
    """
    left = [dict(node) for node in nodes]
    for count, needs in sorted(groups, key=lambda group: -max(group[1].values(), default=0)):
        for _ in range(count):
            fitting = [index for index, node in enumerate(left) if places(node, needs)]
            if not fitting:
                return False
            best = min(fitting, key=lambda index: (left[index].get("GPU", 0), left[index].get("CPU", 0)))
            left[best] = without(left[best], needs)
    return True


@dataclass(frozen=True)
class RoomAsked:
    """Processes that are to run on a cluster, and for how long they may wait for room."""

    what: str
    """In the singular, as "shard"."""
    count: int
    needs: Mapping[str, float]
    """Of each, by Ray's names."""
    deadline_option: str
    """As "cluster.restart_deadline_s"."""
    deadline_s: float
    beside: str = ""
    """Who else is in the way for certain, in words."""

    @property
    def words(self) -> str:
        """Say who needs what."""
        each = " each" if self.count > 1 else ""
        beside = f" ({self.beside})" if self.beside else ""
        need = "need" if self.count > 1 else "needs"
        return f"{plural(self.count, self.what)} {need} {amounts(self.needs)}{each}{beside}"


def amounts(needs: Mapping[str, float]) -> str:
    """Return resources in words: 0.5 CPUs, 1 GPU and 80 MiB of memory."""
    said = [_amount(name, need) for name, need in needs.items() if need > 0] or ["no CPUs"]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{format_size(amount)} of memory"
    return f"{round(amount, 4):g} {name}{'' if amount == 1 else 's'}"


def lacking(asked: RoomAsked, nodes: Nodes, free: Nodes, ours: int = 0) -> str:
    """Say what of the needs the cluster has, what of it is free, and why that is not enough.

    Args:
        asked: Who waits.
        nodes: All that the living nodes have.
        free: What of it nobody holds.
        ours: How many of these processes have their place already; what they hold is not others'.
    """
    said = []
    for name, need in asked.needs.items():
        total, left = (sum(node.get(name, 0) for node in some) for some in (nodes, free))
        largest = max((node.get(name, 0) for node in nodes), default=0)
        if need <= 0:
            continue
        if total < need * asked.count - _EPSILON:
            said.append(f"{_amount(name, total)} in all")
        elif largest < need - _EPSILON:
            said.append(f"{_amount(name, largest)} on its largest node")
        elif left < need * (asked.count - ours) - _EPSILON:
            others = total - left - need * ours
            held = f": others hold {_figure(name, others)}" if others > _EPSILON else ""
            said.append(f"{_amount(name, total)}, of which {_figure(name, left)} are free{held}")
    scattered = [f"{_amount(name, sum(node.get(name, 0) for node in free))} free" for name in asked.needs]
    return f"the cluster has {', and '.join(said) or ', '.join(scattered) + ', but scattered over its nodes'}"


def _figure(name: str, amount: float) -> str:
    return format_size(max(0.0, amount)) if name == "memory" else f"{round(max(0.0, amount), 4):g}"


def waiting_line(asked: RoomAsked, why: str, waited_s: float) -> str:
    """Return the line that says who waits for what, and for how long."""
    return (
        f"waiting for room on the cluster: {asked.words}, but {why} (waited {waited_s:.0f} s of "
        f"{asked.deadline_option}={asked.deadline_s:g})"
    )


class Reminder:
    """Says when to say again that something is waited for: at once, soon, then ever more rarely."""

    def __init__(self) -> None:
        self._due_s = 0.0

    def is_due(self, waited_s: float) -> bool:
        """Whether to say it now, after so many seconds; if so, it is due again later."""
        if waited_s < self._due_s:
            return False
        self._due_s = waited_s + max(_EVERY_S if waited_s >= _SOON_S else _SOON_S, _GROWTH * waited_s)
        return True
