"""The fault harness: real runs with a fault in them, compared with undisturbed ones.

It draws the kind of a fault and its moment from a seed, injects it into a real run of jobs/curate.py or a tick, and
runs the same command again until it ends.

`python -m tests.faults --runs 200` goes on where the table of results ends. Exit code 1 if anything differed.

Outcomes: resumed (a try failed or died, a later one ended as the undisturbed run), survived (the first try did so
although the fault struck), refused (with a reason and the right exit code; with the cause mended the same command ended
right), missed (the run was over before the moment came), different.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults import kinds_disk, kinds_driver, kinds_job, kinds_pool, kinds_ray
from tests.faults.bench import Bench
from tests.faults.case import Case, DifferentError, Outcome
from tests.faults.results import Results, table

KINDS: dict[Callable[[Case, Bench], Outcome], int] = {
    kinds_driver.killed_run: 14,
    kinds_driver.stopped_run: 8,
    kinds_driver.killed_tick: 14,
    kinds_driver.flaky_run_directory: 8,
    kinds_driver.flaky_state: 8,
    kinds_driver.flaky_pool: 8,
    kinds_disk.full_run_directory: 6,
    kinds_disk.full_state: 6,
    kinds_disk.full_cache: 5,
    kinds_pool.replaced: 12,
    kinds_pool.replaced_and_rebuilt: 1,
    kinds_ray.killed_driver: 2,
    kinds_ray.killed_shard: 3,
    kinds_ray.killed_node: 1,
    kinds_ray.killed_raylet: 1,
    kinds_ray.killed_embedded_raylet: 1,
    kinds_ray.out_of_memory: 1,
    kinds_ray.resized: 1,
    kinds_job.stopped_job: 2,
}
"""Every kind of fault with its weight: those that need no Ray take seconds, the others up to a minute."""
_MAX_DRAWS = 5


def run_case(seed: int, index: int, bench: Bench, kinds: list[str]) -> dict[str, object]:
    """Draw and carry out one case, with another moment where the first came too late; returns its line of the table."""
    rng = np.random.default_rng([seed, index])
    able = {kind: weight for kind, weight in KINDS.items() if not kinds or kind.__name__ in kinds}
    weights = np.array(list(able.values()), dtype=float)
    kind = list(able)[int(rng.choice(len(able), p=weights / weights.sum()))]
    draws = 0
    line: dict[str, object] = {"outcome": "missed"}
    while line["outcome"] == "missed" and draws < _MAX_DRAWS:
        draws, line = draws + 1, _carried_out(kind, index, rng, bench)
    return {"seed": seed, "index": index, "draws": draws, **line}


def _carried_out(
    kind: Callable[[Case, Bench], Outcome], index: int, rng: np.random.Generator, bench: Bench
) -> dict[str, object]:
    case, began, why = Case(index, kind.__name__, rng, bench.folder / f"case-{index}"), time.monotonic(), ""
    outcome: Outcome = "different"
    try:
        outcome = kind(case, bench)
    except (DifferentError, AssertionError) as error:
        why = str(error)
    finally:
        case.clean_up()
    facts = {"kind": case.kind, "outcome": outcome, "why": why, "drawn": case.drawn}
    return {**facts, "tries": [tried.told() for tried in case.tries], "seconds": round(time.monotonic() - began, 1)}


def options(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="cases in all, numbered from 0")
    parser.add_argument("--seed", type=int, default=0, help="decides every kind and moment")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no case after that")
    parser.add_argument("--only", type=int, nargs="*", default=[], help="these cases alone, also if done before")
    parser.add_argument("--kinds", nargs="*", default=[], help="draw among these kinds alone")
    parser.add_argument("--table", type=Path, default=Path("runs/faults.jsonl"), help="results, appended to")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Carry out what is left to do; returns the exit code."""
    asked, began = options(words), time.monotonic()
    results = Results(asked.table)
    done = {(line["seed"], line["index"]) for line in results.read()}
    left = asked.only or [index for index in range(asked.runs) if (asked.seed, index) not in done]
    # Directly in /tmp: sockets of a cluster that a run starts lie below it, and their paths are short.
    with tempfile.TemporaryDirectory(prefix="itl-f-", dir="/tmp") as folder, Bench(Path(folder)) as bench:
        for index in left:
            if time.monotonic() - began > 60 * asked.minutes:
                sys.stdout.write("no time left: the same command goes on\n")
                break
            line = run_case(asked.seed, index, bench, asked.kinds)
            results.add(line)
            ends = [tried["exit"] for tried in line["tries"]]  # type: ignore[union-attr, index]
            sys.stdout.write(f"{index} {line['kind']}: {line['outcome']} {ends} {line['seconds']} s {line['why']}\n")
            sys.stdout.flush()
    lines = [line for line in results.read() if line["seed"] == asked.seed]
    sys.stdout.write(table(lines) + "\n")
    return int(any(line["outcome"] == "different" for line in lines))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the head and mounts are ended, too
    sys.exit(main(sys.argv[1:]))
