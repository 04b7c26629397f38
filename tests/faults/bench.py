"""What all cases share: the undisturbed run and tick to compare with, and a Ray head for those that need one."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from tests.faults import evidence
from tests.faults.evidence import Evidence
from tests.faults.injection import Plan
from tests.faults.tries import in_process, operations
from tests.faults.world import FILES, World
from tests.jobs.head import Head, running_head

_FAIR = {"RAY_worker_niceness": "0"}
"""Shards as nice as their driver: beside other work on the machine, Ray's 15 makes a case take minutes."""
BEFORE = FILES - 2
"""Files of the pool at the tick before the one that is disturbed."""


class Bench:
    """Worlds to copy, and how runs and ticks on them end when nothing happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World(folder / "world").build()
        self.ticked = self._with_a_tick()
        self._stack = ExitStack()
        self._counts: dict[tuple[str, bool], int] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def head(self) -> Head:
        """A Ray head with two CPUs, ended with the bench."""
        return self._stack.enter_context(running_head(**_FAIR))

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a driver that joins the head."""
        return self.head.environment | {"RAY_ADDRESS": self.head.gcs}

    @property
    def without_head(self) -> dict[str, str]:
        """Variables of a driver that starts a cluster of its own."""
        return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | _FAIR

    def nodes(self) -> list[int]:
        """Return the process above the head's shards."""
        return [self.head.pid]

    @cached_property
    def pool_identity(self) -> str:
        """Fingerprint of the pool, as an undisturbed run keeps it."""
        assert self.run
        manifest = json.loads((self.folder / "undisturbed-run" / "run" / "manifest.json").read_text())
        return manifest["identity"]["pool"]

    @cached_property
    def run(self) -> Evidence:
        """The undisturbed run."""
        world = self._undisturbed("run", self.world)
        return evidence.of_run(world.folder / "run")

    @cached_property
    def ticks(self) -> dict[str, Evidence]:
        """The state before and after the undisturbed tick."""
        world = self._undisturbed("tick", self.ticked)
        return {
            "before": evidence.of_state(self.ticked.folder / "state"),
            "after": evidence.of_state(world.folder / "state"),
        }

    def num_operations(self, what: str, batches: bool = True) -> int:
        """Return how many operations an undisturbed run or tick does on its own directory."""
        if (what, batches) not in self._counts:
            name = f"counted-{what}-{batches}"
            world = (self.ticked if what == "tick" else self.world).copy(self.folder / name)
            place = world.folder / ("state" if what == "tick" else "run")
            options = world.tick("t1") if what == "tick" else world.run()
            done = in_process(options, world.folder / "try", Plan([str(place)], counts_batches=batches))
            assert done.exit == 0, done.output
            self._counts[what, batches] = operations(world.folder / "try")
        return self._counts[what, batches]

    def _with_a_tick(self) -> World:
        world = World(self.folder / "ticked").build(BEFORE)
        done = in_process(world.tick("t0"), self.folder / "t0")
        assert done.exit == 0, done.output
        for number in range(BEFORE, FILES):
            world.grow(number)
        return world

    def _undisturbed(self, what: str, world: World) -> World:
        copy = world.copy(self.folder / f"undisturbed-{what}")
        options = copy.tick("t1") if what == "tick" else copy.run()
        done = in_process(options, copy.folder / "try")
        assert done.exit == 0, done.output
        return copy
