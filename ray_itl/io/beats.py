"""Doing something again and again beside other work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(action: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Call `action`, which must not raise, every so many seconds in a thread of some name, for a `with` block."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(every_s):
            action()

    thread = threading.Thread(target=beat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
