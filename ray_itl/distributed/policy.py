"""What to do about a failed shard. Pure: failures and times in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ray_itl.errors import ConfigError


class FailureKind(Enum):
    """What a failure says about the shard's process and the rows in it."""

    STALE = "stale"
    """The process lives, but has lost its rows or its place in the selection."""
    UNAVAILABLE = "unavailable"
    """The process died or cannot be reached, and Ray is to bring it back."""
    DEAD = "dead"
    """The process died for good: another has to take its place."""
    FATAL = "fatal"
    """The call would fail again."""


@dataclass(frozen=True)
class Failure:
    """One failed call."""

    kind: FailureKind
    reason: str
    """One line for messages."""
    out_of_memory: bool = False
    error: Exception | None = None
    """What to raise when fatal; a RayItlError keeps its own class."""


@dataclass(frozen=True)
class Restore:
    """Load the shard's rows again, bring them to the present state, and repeat the call."""

    replace: bool
    """Whether a new process must be made first."""


@dataclass(frozen=True)
class Retry:
    """The shard's process is not back yet: look again after a pause."""

    pause_s: float


@dataclass(frozen=True)
class GiveUp:
    """End the selection with this message."""

    message: str


@dataclass(frozen=True)
class RecoveryPolicy:
    """How long and how often to wait for lost shards."""

    restart_deadline_s: float = 600.0
    """Seconds within which a lost shard's process must be back (and a new one must find a place)."""
    max_rebuilds: int = 5
    """How often a shard is rebuilt for one call before giving up."""

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        if not self.restart_deadline_s > 0:
            raise ConfigError(f"cluster.restart_deadline_s={self.restart_deadline_s}: must be above 0")

    def after_call(self, shard: str, failure: Failure, rebuilds: int) -> Restore | GiveUp:
        """Decide about a call that failed (not fatally) after so many rebuilds of this shard in vain."""
        if rebuilds < self.max_rebuilds:
            return Restore(replace=failure.kind is FailureKind.DEAD)
        remedy = (
            "the node ran out of memory: use more and smaller shards (cluster.num_shards), a smaller pool.dtype, or "
            "nodes with more memory"
            if failure.out_of_memory
            else "see the logs of the shard's process on the cluster, then run the same command again to resume"
        )
        return GiveUp(f"{shard} was rebuilt {rebuilds} times and failed again ({failure.reason}); {remedy}")

    def while_waiting(self, shard: str, failure: Failure | None, waited_s: float) -> Retry | GiveUp:
        """Decide about a shard whose process has not answered for a time; `failure` is None if it said nothing."""
        if waited_s >= self.restart_deadline_s:
            reason = f" ({failure.reason})" if failure else ""
            return GiveUp(
                f"{shard} did not come up within cluster.restart_deadline_s="
                f"{self.restart_deadline_s:g} seconds{reason}: add nodes, lower "
                "cluster.num_shards, cluster.cpus_per_shard or cluster.gpus_per_shard, or raise it; if its process "
                "started and was killed for want of memory, Ray's logs (raylet.out) say so"
            )
        return Retry(pause_s=min(1.0, self.restart_deadline_s - waited_s))

    def no_room(self, shard: str, lack: str) -> str:
        """Return the message about a shard that found no place until the deadline, given what the cluster lacks."""
        return (
            f"{shard} found no place within cluster.restart_deadline_s={self.restart_deadline_s:g} seconds: {lack}: "
            "once there is room, run the same command again to resume"
        )
