"""One connection for all threads of a process, ended by the last of them, and never the caller's own."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
import ray

from ray_itl.cluster import connection
from ray_itl.cluster.connection import check_address, connect
from ray_itl.errors import ConfigError, ShardError


class FakeRay:
    """Stands for Ray in the module: it is there once `begin` was called, until it is shut down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, is_there: bool = False) -> None:
        self.is_there = is_there
        self.said: list[str] = []
        self.begun_by = threading.current_thread()
        monkeypatch.setattr(connection, "_CONNECTION", connection._Connection())
        monkeypatch.setattr(connection, "start_local_cluster", self.begin)
        monkeypatch.setattr(ray, "is_initialized", lambda: self.is_there)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def begin(self, stack: ExitStack, *_: object) -> None:
        assert not self.is_there
        stack.callback(self.shutdown)
        self.is_there = True
        self.begun_by = threading.current_thread()
        self.said.append("begin")

    def shutdown(self) -> None:
        self.is_there = False
        self.said.append("end")


def test_threads_share_a_connection_and_the_last_ends_it(monkeypatch):
    fake = FakeRay(monkeypatch)
    entered, leave = threading.Barrier(3, timeout=60), [threading.Event(), threading.Event()]

    def use(number: int) -> None:
        with connect():
            entered.wait()
            leave[number].wait(60)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    entered.wait()
    assert fake.said == ["begin"]
    leave[0].set()
    threads[0].join(60)
    assert fake.is_there
    assert fake.begun_by not in threads  # with which the system would end the cluster's processes
    assert fake.begun_by.is_alive()
    leave[1].set()
    threads[1].join(60)
    assert fake.said == ["begin", "end"]
    fake.begun_by.join(60)
    assert not fake.begun_by.is_alive()
    with connect():
        pass
    assert fake.said == ["begin", "end"] * 2


def test_the_callers_connection_is_left_alone_whatever_the_address(monkeypatch):
    fake = FakeRay(monkeypatch, is_there=True)
    with connect("http://somewhere:8265"), pytest.raises(ShardError), connect("local"):
        raise ShardError("lost")
    check_address("http://somewhere:8265")
    assert fake.is_there
    assert fake.said == []


def test_a_connection_that_fails_leaves_nothing(monkeypatch):
    fake = FakeRay(monkeypatch)
    with pytest.raises(ConfigError, match="Jobs API"), connect("http://somewhere:8265"):
        pass
    with connect():
        assert fake.said == ["begin"]
    assert fake.said == ["begin", "end"]


def test_a_connection_that_somebody_ended_is_begun_anew(monkeypatch):
    fake = FakeRay(monkeypatch)
    with connect():
        fake.shutdown()
        with connect():
            assert fake.is_there
    assert not fake.is_there


def test_an_address_is_checked_before_any_work(monkeypatch):
    FakeRay(monkeypatch)
    check_address("head:6379")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=http://127\.0\.0\.1:8265"):
        check_address(None)
