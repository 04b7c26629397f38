"""What is left is the least of what the machine has and what the container allows."""

from pathlib import Path

import pytest

from ray_itl.shards.footprint import available_memory


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8,000 KiB left and no container."""
    (tmp_path / "meminfo").write_text("MemTotal:  16000 kB\nMemAvailable:   8000 kB\n")
    monkeypatch.setattr("ray_itl.shards.footprint._MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("ray_itl.shards.footprint._CGROUP", tmp_path)
    return tmp_path


def test_without_a_container_it_is_what_the_machine_says(machine: Path) -> None:
    assert machine.exists()
    assert available_memory() == 8000 * 1024


@pytest.mark.parametrize(("limit", "left"), [("max", 8000 * 1024), ("1000000", 300_000), ("600000", 0)])
def test_a_container_of_today(machine: Path, limit: str, left: int) -> None:
    (machine / "memory.current").write_text("750000\n")
    (machine / "memory.max").write_text(f"{limit}\n")
    (machine / "memory.stat").write_text("anon 700000\ninactive_file 50000\n")
    assert available_memory() == left


def test_a_container_of_the_older_kind(machine: Path) -> None:
    (machine / "memory").mkdir()
    (machine / "memory" / "memory.usage_in_bytes").write_text("750000\n")
    (machine / "memory" / "memory.limit_in_bytes").write_text("1000000\n")
    assert available_memory() == 250_000


def test_where_nothing_is_told_all_memory_counts(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert available_memory() > 2**28
