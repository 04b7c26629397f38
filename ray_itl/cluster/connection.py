"""Connecting to Ray: a cluster in this process, the one a job runs on, or one that the caller has already.

Also a cluster of several nodes that are processes of this machine, for tests and benchmarks.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import ray
from ray.cluster_utils import Cluster

from ray_itl.cluster.address import ClusterAddress, find_address
from ray_itl.cluster.head import absent, find_head
from ray_itl.cluster.local import ensure_token, start_local_cluster
from ray_itl.errors import ConfigError


class _Connection:
    """This process's connection, made by the first of the threads that need one and ended by the last.

    Ray knows one connection for a process. One that the caller made is never ended here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stack = ExitStack()

    def join(self, begin: Callable[[ExitStack], None]) -> None:
        """Count one more user; the first begins the connection, unless the caller has one."""
        with self._lock:
            if not ray.is_initialized():
                with ExitStack() as stack:
                    if threading.current_thread() is threading.main_thread():
                        begin(stack)
                    else:
                        _begin_in_lasting_thread(begin, stack)
                    self._stack.push(stack.pop_all())
            self._users += 1

    def leave(self, error: BaseException | None) -> None:
        """Count one user less; after the last, end what was begun."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                stack, self._stack = self._stack, ExitStack()
                stack.__exit__(None if error is None else type(error), error, error and error.__traceback__)


def _begin_in_lasting_thread(begin: Callable[[ExitStack], None], stack: ExitStack) -> None:
    """Begin in a thread that ends after all else on the stack.

    The system ends the processes of an embedded cluster with the thread that started them, and the caller's may end
    while other threads still use it.
    """
    over, begun = threading.Event(), Future[None]()

    def last() -> None:
        try:
            begin(stack)
        except BaseException as error:
            begun.set_exception(error)
            return
        begun.set_result(None)
        over.wait()

    stack.callback(over.set)
    threading.Thread(target=last, name="ray_itl-cluster", daemon=True).start()
    begun.result()


_CONNECTION = _Connection()


@contextmanager
def connect(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
    namespace: str | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Connect to Ray for the length of a `with` block; on leaving, end only what was begun here.

    A connection that the caller already has is used and left alone, and threads share one. Otherwise an address (or
    RAY_ADDRESS, which `ray job submit` sets) is connected to, and without one an embedded cluster is started on this
    machine, reachable only with a token that lives in this process's environment and is never written to a file.

    Args:
        address: "auto", "host:port" or "local" (an embedded cluster even where RAY_ADDRESS is set).
        num_cpus: CPUs of an embedded cluster; None for all of this machine.
        object_store_bytes: Shared memory of an embedded cluster; None leaves it to Ray.
        namespace: Namespace of named actors.
        notify: Told, in a line, where an embedded cluster keeps its files if that is not where they usually are.

    Raises:
        ConfigError: no cluster can be reached at the address (says why), or an option does not apply.
        StorageError: no disk has room for the files of an embedded cluster.
        ShardError: an embedded cluster does not start.
    """

    def begin(stack: ExitStack) -> None:
        where = find_address(address, os.environ)
        if where.is_embedded:
            start_local_cluster(stack, num_cpus, object_store_bytes, namespace, notify)
            return
        if num_cpus is not None or object_store_bytes is not None:
            raise ConfigError(f"num_cpus and object_store_bytes are not for {where}")
        stack.callback(ray.shutdown)
        _connect(where, namespace)

    _CONNECTION.join(begin)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        _CONNECTION.leave(error)


def check_address(address: str | None) -> None:
    """Check, before any work, that an address (or RAY_ADDRESS) is one that can be connected to; connects to nothing.

    Raises:
        ConfigError: it is none.
    """
    if not ray.is_initialized():
        find_address(address, os.environ)


def _connect(address: ClusterAddress, namespace: str | None) -> None:
    host_port = find_head(address)
    try:
        ray.init(address=host_port, namespace=namespace, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, RuntimeError) as error:
        raise absent(address, error) from error


_STORE_BYTES = 100 * 2**20


@contextmanager
def simulated_cluster(num_nodes: int, cpus_per_node: float) -> Iterator[None]:
    """Start a cluster for the length of a `with` block and connect to it; shards find place on its nodes only.

    Raises:
        ConfigError: this process is connected to Ray already.
    """
    if ray.is_initialized():
        raise ConfigError("this process is connected to Ray already, and so cannot simulate another cluster")
    ensure_token()
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(num_nodes):
            cluster.add_node(num_cpus=cpus_per_node, object_store_memory=_STORE_BYTES)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()
