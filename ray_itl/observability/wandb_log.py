"""A run on Weights & Biases, online or in files that `wandb sync` sends later."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_itl.errors import ConfigError
from ray_itl.extras import load_extra
from ray_itl.observability.run_log import Point, State

_STEP = "step"
_START_S = 30.0


class WandbLog:
    """One run of a project, beside any other that this process may have there.

    Figures carry a step of their own, since a resumed run logs what is missing, in whatever order that is.
    """

    name = "Weights & Biases"

    def __init__(
        self, project: str, mode: str | None, folder: Path | None, run_name: str, joined: Mapping[str, str]
    ) -> None:
        """Name the run.

        Args:
            project: "project", or "team/project".
            mode: online or offline; None: WANDB_MODE, else online.
            folder: Where its files go, below `wandb`; None: the working directory.
            run_name: Of the run.
            joined: What `begin` returned earlier, or empty.

        Raises:
            MissingExtraError: wandb is not installed.
            ConfigError: nobody is logged in there.
        """
        self._wandb: Any = load_extra("wandb", "tracking.wandb_project", "wandb")
        self._project, self._folder, self._run_name, self._joined = project, folder, run_name, dict(joined)
        # What it has to say goes to its own files: this process has one way of telling.
        self._settings = self._wandb.Settings(silent=True, console="off", init_timeout=_START_S, disable_git=True)
        self._mode = mode or os.environ.get("WANDB_MODE", "online")
        if self._mode == "online" and not self._wandb.login(prompt=False, verify=False):
            raise ConfigError(
                f"tracking.wandb_project={project} needs an account: `wandb login` once on this machine, or set "
                "WANDB_API_KEY in the environment, or tracking.wandb_mode=offline to send the run later"
            )
        self._run: Any = None

    @property
    def place(self) -> Mapping[str, str]:
        """The project."""
        return {"project": self._project}

    def begin(self, options: Mapping[str, str], tags: Mapping[str, str]) -> Mapping[str, str]:
        """Continue the run that was begun in this project, or begin one."""
        is_mine = self.place.items() <= self._joined.items()
        run_id = self._joined["run_id"] if is_mine else secrets.token_hex(8)
        team, _, project = self._project.rpartition("/")
        self._run = self._wandb.init(
            entity=team or None,
            project=project,
            id=run_id,
            name=self._run_name,
            dir=None if self._folder is None else str(self._folder),
            config={**tags, **options},
            allow_val_change=True,
            mode=self._mode,
            resume="allow",
            reinit="create_new",
            settings=self._settings,
        )
        self._run.define_metric(_STEP)
        self._run.define_metric("*", step_metric=_STEP)
        return {**self.place, "run_id": run_id}

    def log(self, points: Sequence[Point]) -> None:
        """Log figures."""
        for step, values in points:
            self._run.log({_STEP: step, **values})

    def attach(self, path: Path) -> None:
        """Keep a copy of a file among the run's, which go along with it."""
        shutil.copy(path, Path(self._run.dir) / path.name)

    def end(self, state: State) -> None:
        """Say how the run ended; it has no state for waiting, so that stands in the summary."""
        self._run.summary["state"] = state
        self._run.finish(exit_code=int(state == "failed"))
