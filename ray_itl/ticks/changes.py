"""What is new in a pool since earlier ticks, by the contents of its files: neither times nor names decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pyarrow as pa

from ray_itl.errors import InputError
from ray_itl.sources.manifest import FileEntry, Manifest, describe_file_changes

ChangeKind = Literal["new", "changed", "moved", "vanished"]


class FileChange(NamedTuple):
    """What happened to one file.

    `new`: its contents are; `changed`: what it held is gone; `moved`: known contents are here now, or are copied here;
    `vanished`: what it held is gone, or now elsewhere, where it `moved`.
    """

    path: str
    fate: ChangeKind
    fingerprint: str
    num_rows: int


@dataclass(frozen=True)
class SeenFiles:
    """What earlier ticks saw of a pool."""

    files: Mapping[str, str]
    """Fingerprint of each file by its path, as of the last tick."""
    contents: Set[str]
    """Every fingerprint that any tick saw."""

    @classmethod
    def after(cls, ticks: Iterable[Sequence[FileChange]]) -> SeenFiles:
        """Return what was seen after the news of each tick, first to last."""
        files: dict[str, str] = {}
        contents: set[str] = set()
        for tick in ticks:
            for changes in tick:
                if changes.fate == "vanished":
                    files.pop(changes.path, None)
                else:
                    files[changes.path] = changes.fingerprint
                    contents.add(changes.fingerprint)
        return cls(files, contents)


@dataclass(frozen=True)
class PoolChanges:
    """How a pool differs from what was seen of it."""

    files: Sequence[FileChange]
    """All files about which there is news, in order of their paths; a path may have vanished."""
    new_files: Sequence[FileEntry]
    """Files whose rows no tick has considered, in order of their paths."""

    @property
    def num_rows(self) -> int:
        """Rows of the new files."""
        return sum(file.num_rows for file in self.new_files)


def compare(pool: Manifest, seen: SeenFiles, on_changed: str) -> PoolChanges:
    """Compare a pool's files with what was seen of them.

    A file whose contents were seen under another name counts as seen. A file counts as changed or vanished only if what
    it held is in no file of the pool any more. Files of tables may vanish: their log says that they shall. Of a file
    that changed too lately to be looked at there is no news.

    Args:
        pool: The pool as it is now.
        seen: What earlier ticks saw.
        on_changed: "refuse"; "as_new": the rows of a changed file are new; "as_seen": they are not.

    Raises:
        InputError: files changed or vanished, and `on_changed` is "refuse" (names them).
    """
    now = {file.path: file.fingerprint for file in pool.files}
    present = set(now.values())
    unsettled = set(pool.unsettled)
    before = {path: fingerprint for path, fingerprint in seen.files.items() if path not in unsettled}
    lost = {path for path, fingerprint in before.items() if fingerprint not in present}
    refused = [path for path in lost if not pool.is_of_table(path)]
    if refused and on_changed == "refuse":
        raise _refusal({path: before[path] for path in refused}, {path: now[path] for path in refused if path in now})
    changes = [FileChange(path, "vanished", fingerprint, 0) for path, fingerprint in before.items() if path not in now]
    new_files = []
    for file in pool.files:
        if seen.files.get(file.path) == file.fingerprint:
            continue
        is_changed, is_known = file.path in lost, file.fingerprint in seen.contents
        fate: ChangeKind = "changed" if is_changed else "moved" if is_known else "new"
        changes.append(FileChange(file.path, fate, file.fingerprint, file.num_rows))
        if not is_known and not (is_changed and on_changed == "as_seen"):
            new_files.append(file)
    return PoolChanges(sorted(changes), new_files)


def changes_table(changes: Sequence[FileChange]) -> pa.Table:
    """Return files.parquet."""
    columns = list(zip(*changes, strict=True)) or [()] * len(FileChange._fields)
    kinds = (pa.string(), pa.string(), pa.string(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.table(arrays, names=list(FileChange._fields))


def changes_of_table(table: pa.Table) -> list[FileChange]:
    """Take `changes_table` back."""
    return [FileChange(**row) for row in table.to_pylist()]


def _refusal(before: Mapping[str, str], after: Mapping[str, str]) -> InputError:
    changes = describe_file_changes(before, after)
    return InputError(
        f"pool files that earlier ticks saw are no longer what they were ({changes}): restore them, or say what a "
        "changed file counts as, by state.on_changed=as_new or as_seen (what was picked stays known either way)"
    )
