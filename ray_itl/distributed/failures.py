"""Ray's exceptions as the few kinds of failure that recovery tells apart."""

from __future__ import annotations

from ray import exceptions

from ray_itl.distributed.policy import Failure, FailureKind
from ray_itl.errors import RayItlError, ShardError, StaleShardError

_RETURNS = (
    exceptions.ActorUnavailableError,
    exceptions.OutOfMemoryError,
    exceptions.NodeDiedError,
    exceptions.WorkerCrashedError,
    exceptions.ObjectLostError,
    exceptions.GetTimeoutError,
    exceptions.RpcError,
)


def classify(error: exceptions.RayError) -> Failure:
    """Return what an exception raised by `ray.get` on a shard's result means."""
    if isinstance(error, exceptions.RayTaskError):
        return _classify_cause(error.cause)
    memory = isinstance(error, exceptions.OutOfMemoryError)
    if isinstance(error, _RETURNS):
        return Failure(FailureKind.UNAVAILABLE, _summary(error), out_of_memory=memory)
    if isinstance(error, exceptions.ActorDiedError):
        return Failure(FailureKind.DEAD, _summary(error))
    return Failure(FailureKind.FATAL, _summary(error), error=ShardError(f"a shard failed: {_summary(error)}"))


def _classify_cause(cause: Exception) -> Failure:
    """Classify what was raised inside a shard, without the remote traceback that Ray puts around it."""
    if isinstance(cause, StaleShardError):
        return Failure(FailureKind.STALE, str(cause))
    if isinstance(cause, exceptions.RayError):
        return classify(cause)
    error = cause if isinstance(cause, RayItlError) else ShardError(f"a shard failed: {type(cause).__name__}: {cause}")
    return Failure(FailureKind.FATAL, str(error), error=error)


def _summary(error: Exception) -> str:
    """Return the first line of a message and, where Ray appends a traceback, the last."""
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *dict.fromkeys(line.strip() for line in lines[:1] + lines[-1:])])
