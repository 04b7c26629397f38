"""Progress counts finished and begun rows once, and is told and written no more often than is good."""

from typing import Any

import pytest

from ray_itl.embedding.progress import EmbedProgress
from ray_itl.errors import StorageError
from ray_itl.observability.console import Event
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import Heartbeat


class Told:
    def __init__(self) -> None:
        self.done: list[Any] = []

    def emit(self, event: Event) -> None:
        self.done.append(event.facts["done"])

    def clear(self) -> None: ...

    def finish(self, ending: Any) -> None: ...


@pytest.fixture
def parts() -> Any:
    """Return progress of 100 rows, 20 of which were there, a clock to set, and what it told and wrote."""
    told, written, now = Told(), [], [0.0]
    status = Heartbeat(lambda facts: written.append(dict(facts)))
    return EmbedProgress(Reporter(renderer=told), status, 100, 20, lambda: now[0]), now, told.done, written


def test_rows_are_told_from_the_first_batch_on(parts: Any) -> None:
    progress, now, told, written = parts
    assert (written[0]["rows"], written[0]["of"], written[0]["eta_s"]) == (20, 100, None)
    for second, rows in ((1, 8), (1.1, 8), (2, 4), (4, 8)):
        now[0] = second
        progress.begun(rows)
    assert told == [8, 20, 28]
    assert [facts["rows"] for facts in written] == [20, 40, 48]
    assert (written[-1]["rows_per_s"], written[-1]["eta_s"]) == (7.0, round(52 / 7, 1))
    progress.finished(32)  # of which 28 were begun
    assert told[-1] == 32
    assert written[-1]["rows"] == 52


def test_what_is_lost_or_counted_elsewhere_is_not_counted_twice(parts: Any) -> None:
    progress, now, told, _ = parts
    progress.finished(30)
    now[0] = 5
    progress.all_begun(42)  # by all workers, finished parts included
    assert told[-1] == 42
    progress.given_up()
    progress.finished(10)
    assert told[-1] == 40


def test_storage_that_fails_does_not_end_the_run() -> None:
    def fail(_: Any) -> None:
        raise StorageError("full")

    progress = EmbedProgress(Reporter(renderer=Told()), Heartbeat(fail), 10, 0)
    progress.finished(10)
