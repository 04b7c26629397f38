"""The cache of a node: entries are shared, bounded, and safe from crashed and living processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ray_itl.errors import CacheError, ConfigError
from ray_itl.io.atomic import TEMPORARY_SUFFIX
from ray_itl.io.cache import EntryLease
from ray_itl.shards.cache import EntryKey, ShardCache
from tests.sources.helpers import names_in

KIBIBYTE = 1024


def key(pool: str) -> EntryKey:
    return EntryKey(pool, 0, 10, "as_is", "torch.float32", "2.0")


def fill(cache: ShardCache, pool: str, age: float, size: int = 100 * KIBIBYTE) -> EntryLease:
    """Make an entry that was last used so many seconds ago."""
    lease = cache.begin(key(pool), size)
    (lease.folder / "data").write_bytes(bytes(size))
    lease = cache.publish(key(pool), lease)
    used = (lease.folder / "lock").stat().st_mtime - age
    os.utime(lease.folder / "lock", (used, used))
    return lease


def kept(cache: ShardCache, *pools: str) -> list[bool]:
    return [(cache.folder / key(pool).name).exists() for pool in pools]


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 330 * KIBIBYTE)


def test_only_an_entry_of_the_same_key_is_found(cache: ShardCache) -> None:
    made = fill(cache, "a", 0)
    found = cache.find(key("a"))
    assert found is not None
    assert found.folder == made.folder
    others = [("b", 0, 10), ("a", 1, 10), ("a", 0, 11)]
    assert [cache.find(EntryKey(*rows, "as_is", "torch.float32", "2.0")) for rows in others] == [None] * 3
    assert cache.find(EntryKey("a", 0, 10, "unit_norm", "torch.float32", "2.0")) is None
    assert cache.find(EntryKey("a", 0, 10, "as_is", "torch.float16", "2.0")) is None
    assert cache.find(EntryKey("a", 0, 10, "as_is", "torch.float32", "2.1")) is None


def test_the_least_recently_used_make_room(cache: ShardCache) -> None:
    for pool, age in (("a", 10), ("b", 30), ("c", 20)):
        fill(cache, pool, age).end()
    lease = cache.find(key("b"))
    assert lease is not None
    lease.end()
    cache.begin(key("d"), 100 * KIBIBYTE).end()
    assert kept(cache, "a", "b", "c") == [True, True, False]


def test_entries_in_use_stay_and_the_error_says_so(cache: ShardCache) -> None:
    leases = [fill(cache, pool, 10) for pool in ("a", "b", "c")]
    with pytest.raises(CacheError, match=r"no room for 100 KiB .*cluster\.cache_limit=330 KiB.*entries in use"):
        cache.begin(key("d"), 100 * KIBIBYTE)
    assert kept(cache, "a", "b", "c") == [True] * 3
    leases[1].end()
    cache.begin(key("d"), 100 * KIBIBYTE)
    assert kept(cache, "a", "b", "c") == [True, False, True]


def test_an_entry_larger_than_the_limit_names_the_option(cache: ShardCache) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.cache_limit=330 KiB.*400 KiB"):
        cache.begin(key("a"), 400 * KIBIBYTE)
    assert not cache.folder.exists()


def test_without_a_limit_some_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ShardCache(tmp_path)
    fill(cache, "a", 0).end()
    usage = type("Usage", (), {"total": 1000 * KIBIBYTE, "free": 150 * KIBIBYTE})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(CacheError, match="no room"):
        cache.begin(key("b"), 100 * KIBIBYTE)
    assert kept(cache, "a") == [False]
    cache.begin(key("b"), 50 * KIBIBYTE)


def test_the_faster_of_two_writers_wins(cache: ShardCache) -> None:
    first, second = (cache.begin(key("a"), KIBIBYTE) for _ in range(2))
    winner = cache.publish(key("a"), first)
    assert cache.publish(key("a"), second).folder == winner.folder
    assert names_in(cache.folder) == sorted([key("a").name, "lock"])


def test_a_discarded_entry_is_gone_although_it_is_in_use(cache: ShardCache) -> None:
    user, finder = fill(cache, "a", 0), cache.find(key("a"))
    assert finder is not None
    cache.discard(finder)
    assert cache.find(key("a")) is None
    assert names_in(cache.folder) == ["lock"]
    user.end()


HOLD = """
import sys
from pathlib import Path
from ray_itl.shards.cache import EntryKey, ShardCache
cache, key = ShardCache(sys.argv[1], 330 * 1024), EntryKey("a", 0, 10, "as_is", "torch.float32", "2.0")
lease = cache.begin(key, 1024)
if sys.argv[2] == "publish":
    lease = cache.publish(key, lease)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("what", ["write", "publish"])
def test_another_process_keeps_its_entry_until_it_dies(cache: ShardCache, what: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(cache.folder), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        def others() -> list[str]:
            """Ask for all the room there is; return whose entries are left."""
            lease = cache.begin(key("b"), 330 * KIBIBYTE - 50)
            cache.discard(lease)
            return [name for name in names_in(cache.folder) if name != "lock"]

        if what == "publish":
            with pytest.raises(CacheError, match="in use"):
                others()
            assert kept(cache, "a") == [True]
        else:
            (name,) = others()
            assert name.startswith(key("a").name)
            assert name.endswith(TEMPORARY_SUFFIX)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert others() == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"cache folder .*file/cache cannot be used .*cluster\.cache_dir"):
        ShardCache(tmp_path / "file" / "cache").find(key("a"))
