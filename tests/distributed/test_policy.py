"""Every failure of Ray is classified, and every class leads to a decision. No cluster."""

import pickle

import pytest
from ray import exceptions

from ray_itl.distributed.failures import classify
from ray_itl.distributed.policy import Failure, FailureKind, GiveUp, RecoveryPolicy, Restore, Retry
from ray_itl.errors import ConfigError, InputError, ShardError, StaleShardError

LOST = Failure(FailureKind.UNAVAILABLE, "it went away")


def task_error(cause: Exception) -> exceptions.RayTaskError:
    return exceptions.RayTaskError("verify", "a long remote traceback", cause, proctitle="", pid=1, ip="10.0.0.1")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ActorDiedError(), FailureKind.DEAD),
        (exceptions.ActorUnavailableError("gone", b"0" * 16), FailureKind.UNAVAILABLE),
        (exceptions.OutOfMemoryError("killed"), FailureKind.UNAVAILABLE),
        (exceptions.NodeDiedError("node"), FailureKind.UNAVAILABLE),
        (exceptions.WorkerCrashedError(), FailureKind.UNAVAILABLE),
        (exceptions.GetTimeoutError("slow"), FailureKind.UNAVAILABLE),
        (task_error(StaleShardError("expects block 3")), FailureKind.STALE),
        (task_error(exceptions.ActorDiedError()), FailureKind.DEAD),
        (task_error(InputError("bad row")), FailureKind.FATAL),
        (task_error(KeyError("x")), FailureKind.FATAL),
        (exceptions.RuntimeEnvSetupError("no env"), FailureKind.FATAL),
    ],
)
def test_failures_are_classified(error, kind):
    failure = classify(error)
    assert failure.kind is kind
    assert (failure.error is not None) == (kind is FailureKind.FATAL)
    assert failure.reason


def test_errors_of_this_project_keep_class_and_message():
    cause = InputError("file 'a.parquet' row 3 is bad")
    assert classify(task_error(cause)).error is cause
    other = classify(task_error(ZeroDivisionError("division by zero"))).error
    assert type(other) is ShardError
    assert "ZeroDivisionError: division by zero" in str(other)


def test_out_of_memory_is_told_apart():
    failure = classify(exceptions.OutOfMemoryError("killed"))
    assert failure.out_of_memory
    decision = RecoveryPolicy(max_rebuilds=0).after_call("shard 1", failure, 0)
    assert isinstance(decision, GiveUp)
    assert "cluster.num_shards" in decision.message


def test_a_lost_shard_is_restored_until_it_failed_too_often():
    policy = RecoveryPolicy(max_rebuilds=2)
    assert policy.after_call("shard 1", LOST, 0) == Restore(replace=False)
    assert policy.after_call("shard 1", Failure(FailureKind.STALE, "stale"), 1) == Restore(replace=False)
    assert policy.after_call("shard 1", Failure(FailureKind.DEAD, "dead"), 1) == Restore(replace=True)
    assert isinstance(policy.after_call("shard 1", LOST, 2), GiveUp)


def test_waiting_ends_at_the_deadline_which_is_named():
    policy = RecoveryPolicy(restart_deadline_s=10)
    assert policy.while_waiting("shard 1", LOST, 9.5) == Retry(0.5)
    assert policy.while_waiting("shard 1", None, 3) == Retry(1.0)
    decision = policy.while_waiting("shard 1", LOST, 10)
    assert isinstance(decision, GiveUp)
    assert "cluster.restart_deadline_s=10" in decision.message
    assert "it went away" in decision.message


def test_a_deadline_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="restart_deadline_s"):
        RecoveryPolicy(restart_deadline_s=0)


def test_errors_survive_pickling():
    error = classify(task_error(InputError("bad row"))).error
    assert str(pickle.loads(pickle.dumps(error))) == "bad row"
