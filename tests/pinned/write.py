"""Write the pinned files anew, with the code as it is: `python -m tests.pinned.write`.

Only for a change of a format on disk that is meant: the committed files stand for what users have on theirs, and are
there to be read by later code (see README.md). What is written depends on the code alone, but for times, process ids,
and the last bits of floats, which depend on the machine.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.helpers import SMALL_BLOCKS
from tests.pinned import commands
from tests.pinned.commands import EXPECTED, FILES, PLACE, ROOT, TICK, TICKS, Command

DIM, PART_ROWS = 8, 60
_SPAWN = multiprocessing.get_context("spawn")


def rows(num_rows: int, seed: int) -> np.ndarray:
    """Rows around six centres, of norm about 1: float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((6, DIM))
    drawn = centres[rng.integers(6, size=num_rows)] + 0.4 * rng.standard_normal((num_rows, DIM))
    return (drawn / DIM**0.5).astype(np.float32)


def table(num_rows: int, seed: int, first_id: int = 0) -> pa.Table:
    """Rows with ids in no order, and columns of texts, costs, classes and tasks."""
    rng = np.random.default_rng(1000 + seed)
    embedding = rows(num_rows, seed)
    ids = rng.permutation(num_rows) + first_id
    # The class follows from the row, so that there is something to learn.
    kinds = np.array(["a", "b"])[(embedding[:, 0] > embedding[:, 1]).astype(int)]
    return pa.table(
        {
            "id": ids,
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embedding.reshape(-1)), DIM),
            "text": [f"text {number}" for number in ids],
            "tokens": pa.array(rng.integers(10, 100, num_rows), pa.float64()),
            "kind": kinds,
            "task": [("x", "y")[row % 2] for row in range(num_rows)],
        }
    )


def write_inputs() -> None:
    """Write the pool, the target sample, known rows and held-out rows."""
    (PLACE / "pool").mkdir(parents=True)
    for part in range(4):
        path = PLACE / "pool" / f"part-{part}.parquet"
        pq.write_table(table(PART_ROWS, part, first_id=1000 * part), path, row_group_size=25)
    for name, num_rows, seed in (("target", 10, 11), ("known", 6, 12), ("heldout", 30, 13)):
        pq.write_table(table(num_rows, seed), PLACE / f"{name}.parquet")


def finish(command: Command) -> None:
    """Carry a command out."""
    assert _in_process(command, None) == 0, command


def kill(command: Command, moment: str) -> None:
    """Carry a command out until it is about to write a file of such a path, and end it there with SIGKILL."""
    assert _in_process(command, moment) == -signal.SIGKILL, command


def _in_process(command: Command, moment: str | None) -> int | None:
    process = _SPAWN.Process(target=_carry_out, args=(command, moment))
    process.start()
    process.join()
    return process.exitcode


def _carry_out(command: Command, moment: str | None) -> None:
    def die(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and moment is not None and moment in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    os.chdir(PLACE)
    with (
        patch("socket.gethostname", lambda: "pinned"),  # the writer's own name is nobody's business
        patch("ray_itl.core.greedy.BlockSchedule", lambda: SMALL_BLOCKS),  # so that a ledger has several blocks
    ):
        ended = commands.carry_out(command)
    sys.stderr.write(ended.err)
    sys.exit(ended.code)


def write_runs() -> None:
    """Write every run directory, the state of two ticks, and the cache entry."""
    finish(commands.SELECTION)
    kill(commands.UNFINISHED_SELECTION, "/ledger/.block-00000003")
    (PLACE / "growing").mkdir()
    for name in ("one", "two"):
        tick(name)
    finish(commands.CACHED.given("run.dir=scratch/cached"))
    finish(commands.TUNING)
    kill(commands.UNFINISHED_TUNING, "/rounds/0002/.selection")
    kill(commands.TRAINED_TUNING, "/rounds/0002/.round.json")
    finish(commands.EMBEDDING)
    kill(commands.UNFINISHED_EMBEDDING, "/embeddings/.part-00000002")


def tick(name: str) -> None:
    """Let the pool grow, and carry the next tick out."""
    for part in TICKS[name]:
        shutil.copy(PLACE / "pool" / f"part-{part}.parquet", PLACE / "growing")
    finish(TICK.given(f"state.tick={name}"))


def keep() -> list[Path]:
    """Copy what is pinned into the repository; reports, which hold a library of megabytes, are not."""
    shutil.rmtree(FILES, ignore_errors=True)
    shutil.copytree(PLACE, FILES, ignore=shutil.ignore_patterns("*.html", "scratch", "growing"))
    return sorted(path for path in FILES.rglob("*") if path.is_file())


def expectations(files: list[Path]) -> dict[str, Any]:
    """Return what the test expects; finishes the selection and does the next tick at PLACE."""
    finish(commands.UNFINISHED_SELECTION.given("run.dir=scratch/unfinished"))
    tick("three")
    ticks = pq.read_table(PLACE / "state" / "ticks.parquet").drop_columns(["time", "seconds", "path"]).to_pylist()
    paths = pq.read_table(PLACE / "state" / "ticks.parquet").column("path").to_pylist()
    return {
        "written_by": _commit(),
        "torch": json.loads((PLACE / "selection" / "manifest.json").read_text())["versions"]["torch"],
        "selection": picked(PLACE / "selection"),
        "selection-unfinished": picked(PLACE / "scratch" / "unfinished"),
        "cached": picked(PLACE / "scratch" / "cached"),
        "ticks": [{**record, **picked(PLACE / "state" / path)} for record, path in zip(ticks, paths, strict=True)],
        "tuning": rounds(PLACE / "tuning"),
        "sha256": {str(path.relative_to(FILES)): sha256(path.read_bytes()).hexdigest() for path in files},
    }


def picked(run: Path) -> dict[str, list[Any]]:
    """Return ids, gains and, where there are any, costs of a selection's picks. JSON keeps floats exactly."""
    table = pq.read_table(run / "selection.parquet")
    names = [name for name in ("id", "gain", "cost") if name in table.column_names]
    return {f"{name}s": table.column(name).to_pylist() for name in names}


def rounds(run: Path) -> list[dict[str, Any]]:
    """Return picks, gains and held-out scores of every round of a fine-tuning."""
    found = []
    for folder in sorted((run / "rounds").iterdir()):
        record = json.loads((folder / "round.json").read_text())
        kept = {name: value for name, value in record.items() if name not in ("seconds", "drift")}
        found.append({**kept, **(picked(folder) if record["round"] else {})})
    return found


def _commit() -> str:
    """Return the last commit of the code that writes."""
    code = ["--", "ray_itl", "jobs", "configs"]
    changed = subprocess.run(["git", "status", "--porcelain", *code], cwd=ROOT, capture_output=True, check=True)
    assert not changed.stdout, "commit the code first: the files say which commit wrote them"
    last = ["git", "log", "-1", "--format=%H", *code]
    return subprocess.run(last, cwd=ROOT, capture_output=True, check=True, text=True).stdout.strip()


def main() -> None:
    """Write everything, and say how large it is."""
    _commit()
    os.environ["OMP_NUM_THREADS"] = "1"
    PLACE.mkdir()
    try:
        write_inputs()
        write_runs()
        files = keep()
        EXPECTED.write_text(json.dumps(expectations(files), indent=1) + "\n")
    finally:
        shutil.rmtree(PLACE)
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files):,} bytes, in {FILES}")


if __name__ == "__main__":
    main()
