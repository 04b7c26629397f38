"""Ray's exceptions as the few kinds of failure that recovery tells apart."""

from __future__ import annotations

from ray import exceptions

from ray_itl.distributed.policy import Failure, FailureKind
from ray_itl.errors import RayItlError, ShardError, StaleShardError
from ray_itl.text import error_summary

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
        return Failure(FailureKind.UNAVAILABLE, error_summary(error), out_of_memory=memory)
    if isinstance(error, exceptions.ActorDiedError):
        return Failure(FailureKind.DEAD, error_summary(error))
    return Failure(FailureKind.FATAL, error_summary(error), error=ShardError(f"a shard failed: {error_summary(error)}"))


def _classify_cause(cause: Exception) -> Failure:
    """Classify what was raised inside a shard, without the remote traceback that Ray puts around it."""
    if isinstance(cause, StaleShardError):
        return Failure(FailureKind.STALE, str(cause))
    if isinstance(cause, exceptions.RayError):
        return classify(cause)
    error = cause if isinstance(cause, RayItlError) else ShardError(f"a shard failed: {type(cause).__name__}: {cause}")
    return Failure(FailureKind.FATAL, str(error), error=error)
