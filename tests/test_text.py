"""Sizes as people write them, and errors in brief."""

import pytest

from ray_itl.errors import ConfigError
from ray_itl.text import error_summary, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (None, None),
        ("1", 1),
        (1048576, 2**20),
        ("2GiB", 2**31),
        ("2 gib", 2**31),
        ("500MB", 500 * 10**6),
        ("1.5KiB", 1536),
        ("3TB", 3 * 10**12),
    ],
)
def test_sizes_are_read(text: str | int | None, size: int | None) -> None:
    assert parse_size("x", text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "0", "2 apples", "1e3", "2GiB2", "0.1B"])
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.memory_per_shard=.*2GiB"):
        parse_size("cluster.memory_per_shard", text)


@pytest.mark.parametrize("size", [17, 1000, 1536, 3 * 2**20, 2**31, 5 * 2**40])
def test_what_is_written_can_be_read(size: int) -> None:
    assert parse_size("x", format_size(size).replace(",", "")) == pytest.approx(size, rel=5e-3)


@pytest.mark.parametrize(
    ("message", "summary"),
    [
        ("", "ValueError"),
        ("it is full", "ValueError: it is full"),
        ("\x1b[36mray::run()\x1b[39m failed", "ValueError: ray::run() failed"),  # as Ray's messages are
        ("\n it is full \n", "ValueError: it is full"),
        ("a task failed\n  File 'a.py', line 3\nKeyError: 5", "ValueError: a task failed: KeyError: 5"),
    ],
)
def test_errors_in_brief(message: str, summary: str) -> None:
    assert error_summary(ValueError(message)) == summary
