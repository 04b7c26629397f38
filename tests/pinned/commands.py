"""The commands whose results are pinned, and running them as on the command line, but in this process."""

from __future__ import annotations

import io
import os
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
FILES = Path(__file__).parent / "files"
EXPECTED = Path(__file__).parent / "expected.json"
PLACE = Path("/tmp/ray_itl-pinned")
"""Where the committed files were written, and so what the paths in them begin with. Readers put them elsewhere."""


class Command(NamedTuple):
    """A job with its options, given in the folder that all its paths are relative to."""

    job: str
    options: tuple[str, ...]

    def given(self, *more: str) -> Command:
        """Return the command with further options, which come last and so win."""
        return Command(self.job, (*self.options, *more))


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


_NO_LOGGING = ("hydra/job_logging=none", "hydra/hydra_logging=none")
_HERE = "cluster.num_shards=0"
_BOUNDS = (
    *("selection.cost_column=tokens", "selection.budget=500", "selection.min_distance=0.001"),
    "selection.quotas={kind: {a: {max: 0.5}, b: {min: 3}}}",
)
SELECTION = Command(
    "curate",
    (
        *("pool.path=pool", "pool.columns=[text,kind]", "target.path=target.parquet", "acquisition.noise_variance=0.1"),
        *("selection.n=12", "selection.explain=true", *_BOUNDS, _HERE, "run.report=false", "run.dir=selection"),
        *("evaluation.class_column=kind", "evaluation.classes=[a]"),
    ),
)
"""With an explanation, bounds and a comparison."""
UNFINISHED_SELECTION = Command(
    "curate",
    (
        *("pool.path=pool", "pool.filter=tokens < 90", "pool.features=unit_norm", "pool.dtype=float64"),
        *("target.path=target.parquet", "target.task_column=task", "target.task_weights={x: 2}"),
        *("known.path=known.parquet", "avoid.path=known.parquet", "avoid.weight=0.1", "acquisition=vtl"),
        *("selection.n=24", _HERE, "run.report=false", "run.dir=selection-unfinished"),
    ),
)
"""Of several tasks, on rows that meet a condition, given known rows and rows to avoid."""
TICK = Command(
    "curate",
    (
        *("pool.path=growing", "pool.columns=[text]", "target.path=target.parquet", "acquisition.noise_variance=0.1"),
        *("selection.n=5", _HERE, "run.report=false", "state.dir=state"),
    ),
)
"""One tick on the parts of the pool that are in `growing`; its name is still to be given."""
TICKS = {"one": (0, 1), "two": (2,), "three": (3,)}
"""Tick -> parts of the pool that are new to it. The last is left to the test."""
CACHED = Command(
    "curate",
    (
        *("pool.path=pool", "pool.features=unit_norm", "pool.storage=disk", "target.path=target.parquet"),
        *("selection.n=6", _HERE, "cluster.cache_dir=cache", "run.report=false"),
    ),
)
"""Its features are in the cache; where its results go is still to be given."""
_TUNING = (
    *("experiment=none", "data.pool=pool", "data.target=target.parquet", "data.heldout=heldout.parquet"),
    *("data.raw_column=embedding", "data.label_column=kind", "data.classes=[a,b]"),
    *("model.options={input_dim: 8, hidden: [6], classes: 2}", "rounds.count=2", "rounds.batch=8"),
    *("training.epochs=20", "training.learning_rate=0.05"),
)
TUNING = Command("finetune", (*_TUNING, "run.dir=tuning"))
UNFINISHED_TUNING = Command("finetune", (*_TUNING, "run.dir=tuning-unfinished"))
"""Its first round is whole, of its second there is nothing."""
TRAINED_TUNING = Command("finetune", (*_TUNING, "run.dir=tuning-trained"))
"""Of its second round all is there but the record."""
_EMBEDDING = (
    *("pool.path=pool", "pool.raw_column=embedding", "pool.columns=[kind]", "output.part_rows=64"),
    *("model.name=mlp", "model.options={input_dim: 8, hidden: [6], classes: 2}", "cluster.num_workers=0"),
    "model.checkpoint=tuning/rounds/0002/checkpoint.safetensors",
)
EMBEDDING = Command("embed", (*_EMBEDDING, "run.dir=embedding"))
UNFINISHED_EMBEDDING = Command("embed", (*_EMBEDDING, "run.dir=embedding-unfinished"))


def verify(run: str) -> Command:
    """Return the command that checks a finished selection."""
    return Command("verify", (f"run.dir={run}",))


def replay(job: str, run: str, *more: str) -> Command:
    """Return the command that repeats a run from its own record, as README.md has it.

    What is added keeps Hydra, which then does not see configs/, from changing the logging of this process.
    """
    return Command(job, ("--config-dir", run, "--config-name", "config", *_NO_LOGGING, *more))


def carry_out(command: Command) -> Ended:
    """Run jobs/NAME.py in the working directory, with all that the command line does, but without a new process."""
    script = str(ROOT / "jobs" / f"{command.job}.py")
    out, err, code = io.StringIO(), io.StringIO(), 0
    # Jobs change both for the rest of their process.
    changed = patch.object(sys, "argv", [script, *command.options]), patch.dict(os.environ)
    with changed[0], changed[1], redirect_stdout(out), redirect_stderr(err):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Ended(code, out.getvalue(), err.getvalue())
