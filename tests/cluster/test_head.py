"""A head that is not there, turns us away, has other versions, or goes: each is said as such. No cluster."""

import socket
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import ray

from ray_itl.cluster import head
from ray_itl.cluster.address import ClusterAddress, find_address
from ray_itl.errors import ConfigError, ShardError

HERE = {"ray_version": ray.__version__, "python_version": ".".join(map(str, head.sys.version_info[:3]))}


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.parametrize(
    ("option", "environment"),
    [
        ("127.0.0.1:1", {}),
        (None, {"RAY_ADDRESS": "127.0.0.1:1"}),
        ("no-such-host.invalid:6379", {}),
        (f"{'a' * 70}:6379", {}),
    ],
)
def test_nothing_answers(option, environment):
    address = find_address(option, environment)
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at {address.option}=") as refused:
        head.find_head(address)
    assert "RAY_ADDRESS" in str(refused.value)


def test_other_versions_are_both_named():
    assert head.versions_differ(HERE) is None
    assert head.versions_differ({}) is None
    for change in ({"ray_version": "2.55.0"}, {"python_version": "3.9.1"}):
        line = head.versions_differ({**HERE, **change}) or ""
        assert all(version in line for version in [*HERE.values(), *change.values()])


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "RAY_AUTH_MODE is not `token`"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "x"}, "RAY_AUTH_MODE is not `token`"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret"}, "RAY_AUTH_TOKEN holds another"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/x"}, "RAY_AUTH_TOKEN_PATH holds another"),
        ({"RAY_AUTH_MODE": "token"}, "neither RAY_AUTH_TOKEN nor"),
    ],
)
def test_a_token_that_is_not_taken(environment, words):
    line = head.refused_token(ClusterAddress("head:6379", "RAY_ADDRESS"), environment)
    assert "RAY_ADDRESS=head:6379" in line
    assert words in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (head.AuthenticationError("RPC error: InvalidAuthToken"), "token"),
        (head.RayError("Timed out while waiting for GCS"), "no head of a Ray cluster"),
    ],
)
def test_who_answers_is_no_head_of_ours(monkeypatch, error, words):
    def metadata(_: str) -> dict:
        raise error

    monkeypatch.setattr(head, "_metadata", metadata)
    with listening() as listener:
        address = ClusterAddress(f"127.0.0.1:{listener.getsockname()[1]}", "cluster.address")
        with pytest.raises(ConfigError, match=words) as refused:
            head.find_head(address)
        assert str(address) in str(refused.value)


def test_a_head_is_lost_after_a_while_of_silence_and_not_before():
    answers, now = [False], [0.0]
    watch = head.HeadWatch(lambda: answers[0], gone_s=30, clock=lambda: now[0], may_compute=lambda: True)
    for now[0] in (1.0, 20.0, 30.9):
        watch.check()
    answers[0] = True
    watch.check()
    answers[0] = False
    for now[0] in (40.0, 69.0):
        watch.check()
    now[0] = 70.0
    with pytest.raises(ShardError, match=r"has not answered for 30 seconds.*resume"):
        watch.check()


@pytest.mark.parametrize(("alive", "grows", "lost"), [(True, False, False), (False, True, False), (False, False, True)])
def test_a_cluster_of_our_own_is_lost_with_its_only_node(monkeypatch, alive, grows, lost):
    monkeypatch.setattr(head.ray, "nodes", lambda: [{"Alive": False}, {"Alive": alive}])
    monkeypatch.setattr(head, "can_grow", lambda: grows)
    with pytest.raises(ShardError, match=r"has died.*same command") if lost else nullcontext():
        head.HeadWatch(lambda: True).check()


@pytest.mark.parametrize(("kind", "lost"), [("raylet", True), ("reporter", False)])
def test_a_node_that_this_process_started_is_known_to_be_dead_before_the_head_tells(monkeypatch, kind, lost):
    node = SimpleNamespace(is_head=lambda: True, dead_processes=lambda: [(kind, None)])
    monkeypatch.setattr(head.worker, "_global_node", node)
    monkeypatch.setattr(head.ray, "nodes", lambda: [{"Alive": True}])
    with pytest.raises(ShardError, match="has died") if lost else nullcontext():
        head.HeadWatch(lambda: True).check()


def _unable() -> list[dict]:
    raise RuntimeError("try again")


def test_a_head_that_does_not_tell_its_nodes_is_not_lost_for_that(monkeypatch):
    monkeypatch.setattr(head.ray, "nodes", _unable)
    head.HeadWatch(lambda: True).check()


def test_the_wait_for_a_head_follows_rays_own(monkeypatch):
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
    now = [0.0]
    watch = head.HeadWatch(lambda: False, clock=lambda: now[0])
    for now[0] in (1.0, 290.0):
        watch.check()
    now[0] = 302.0
    with pytest.raises(ShardError, match="300 seconds"):
        watch.check()
