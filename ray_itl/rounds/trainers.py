"""The trainer that the options ask for."""

from __future__ import annotations

from pathlib import Path

from ray_itl.rounds.settings import TrainerSettings
from ray_itl.training.carry_out import LocalTrainer
from ray_itl.training.trainer import Trainer


def make_trainer(settings: TrainerSettings, run: Path) -> Trainer:
    """Return a trainer, to be closed by the caller; those on Ray need a connection.

    Raises:
        ConfigError: an option out of range.
    """
    if settings.kind == "local":
        return LocalTrainer("cuda" if settings.use_gpu else "cpu")
    # Imported here so that training in this process never loads Ray.
    from ray_itl.training.ray_trainer import RayTrainer

    return RayTrainer(
        settings.num_workers,
        str(run / "ray_train"),
        use_gpu=settings.use_gpu,
        cpus_per_worker=settings.cpus_per_worker,
        long_lived=settings.kind == "ray_long_lived",
        max_failures=settings.max_failures,
        restart_deadline_s=settings.restart_deadline_s,
    )
