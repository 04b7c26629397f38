"""Supervised fine-tuning by TRL, here or on Ray Train: `trainer.kind=ray_itl.training.trl_sft:TrlSft`.

To be used as it is, and to be copied by whoever trains otherwise: it is all that a trainer of one's own takes (see
`round_trainer`). Rows are texts, chats (`messages`: lists of role and content), or prompts with completions; what of
them is trained on is TRL's to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ray_itl.errors import ConfigError, TrainingError
from ray_itl.extras import load_extra
from ray_itl.io.atomic import write_json
from ray_itl.options.checks import require
from ray_itl.training.models.language_model import CausalLm
from ray_itl.training.models.pretrained import without_bars

_EXTRA = ("trl", "trainer.kind=ray_itl.training.trl_sft:TrlSft", "trl")
_PAIR = ("prompt", "completion")
_OURS = ("output_dir", "report_to", "seed", "data_seed", "use_cpu")
_MODEL, _MEASURED = "model", "trl.json"
_TRL_PICKLES = "training_args.bin"


@dataclass(frozen=True)
class _Job:
    """What the workers do, as plain data: train and save the model, score it on the held-out rows, or both."""

    model: str
    examples: str | None
    """None: no training."""
    heldout: str | None
    """None: no scores."""
    settings: dict[str, Any]
    """Of SFTConfig."""
    lora_rank: int
    save_to: str
    measured: str
    """File for what TRL measured: Ray Train hands nothing back that comes without a checkpoint."""


class TrlSft:
    """A language model that TRL trains anew from the same weights in every round, on all rows so far.

    Features are means of the last hidden states over the tokens of a row, before any training those of the model as it
    comes.
    """

    score_name = "loss"
    higher_is_better = False

    def __init__(
        self,
        model: str,
        *,
        sft: Mapping[str, Any] | None = None,
        workers: int = 0,
        use_gpu: bool = False,
        cpus_per_worker: float = 1.0,
        lora_rank: int = 0,
        max_tokens: int = 256,
        goes_on: bool = False,
    ) -> None:
        """Check options; no model is loaded yet.

        Args:
            model: A folder that transformers wrote, or a name on the hub.
            sft: Arguments of TRL's SFTConfig, as {max_steps: 200, learning_rate: 2.0e-5, assistant_only_loss: true}.
            workers: Of Ray Train. 0: train and score in the run's own process.
            use_gpu: One GPU a worker.
            cpus_per_worker: CPUs a worker reserves.
            lora_rank: Train adapters of this rank, which are merged into the weights; 0: train all weights.
            max_tokens: Of a row that is embedded; longer ones are cut.
            goes_on: Train from the weights of the round before, in place of `model`.

        Raises:
            MissingExtraError: TRL is not installed.
            ConfigError: an option is out of range, or no argument of SFTConfig.
        """
        require(workers >= 0, "trainer.options.workers", workers, "at least 0")
        require(lora_rank >= 0, "trainer.options.lora_rank", lora_rank, "at least 0")
        settings = dict(sft or {})
        known = {each.name for each in fields(load_extra(*_EXTRA).SFTConfig)}
        if wrong := sorted(name for name in settings if name not in known or name in _OURS):
            raise ConfigError(
                f"trainer.options.sft.{wrong[0]} cannot be used: name an argument of TRL's SFTConfig other than "
                f"{', '.join(_OURS)}"
            )
        self._model, self._settings, self._lora_rank, self._goes_on = model, settings, lora_rank, goes_on
        self._workers, self._use_gpu, self._cpus = workers, use_gpu, cpus_per_worker
        self._max_tokens = max_tokens
        self._heldout: Path | None = None  # once it is known
        self._loaded: tuple[str, CausalLm] | None = None

    def train(self, examples: Path, previous: Path | None, folder: Path, seed: int) -> Path:
        """See `RoundTrainer.train`; a round that was killed begins again.

        The workers score the model, too, while they have it.
        """
        start = str(previous) if self._goes_on and previous is not None else self._model
        self._run(start, examples, self._heldout, folder, {"seed": seed % 2**31})
        return folder / _MODEL

    def features(self, checkpoint: Path | None, column: pa.Array) -> np.ndarray:
        """See `RoundTrainer.features`."""
        learner = self._learner(checkpoint)
        device = next(learner.parameters()).device
        inputs = {name: values.to(device) for name, values in learner.encode(column).items()}
        with torch.inference_mode():
            return learner.features(inputs).cpu().numpy()

    def score(self, checkpoint: Path | None, heldout: Path) -> dict[str, float]:
        """Return the mean loss of a token that TRL would train on, in nats."""
        self._heldout = heldout
        model = self._model if checkpoint is None else str(checkpoint)
        folder = heldout.parent if checkpoint is None else checkpoint.parent
        found = _read(folder / _MEASURED)
        if (found.get("model"), found.get("heldout")) != (model, str(heldout)):
            found = self._run(model, None, heldout, folder, {})
        return {"loss": found["eval_loss"]}

    def _run(
        self, model: str, examples: Path | None, heldout: Path | None, folder: Path, more: dict[str, Any]
    ) -> dict[str, Any]:
        """Train, score, or both, here or on workers; the model and their notes go to `folder`."""
        settings = {
            "save_strategy": "no",  # its checkpoints are pickles in part
            "bf16": self._use_gpu,
            "disable_tqdm": True,
            **self._settings,
            **more,
            "output_dir": str(folder / "trl"),
            "report_to": "none",
            "use_cpu": not self._use_gpu,
        }
        rows, measured = [None if path is None else str(path) for path in (examples, heldout)], folder / _MEASURED
        job = _Job(model, rows[0], rows[1], settings, self._lora_rank, str(folder / _MODEL), str(measured))
        if self._workers:
            self._run_on_ray(job, folder)
        else:
            _work(job)
        if not (found := _read(measured)):
            raise TrainingError(
                f"the workers finished, but {measured} is not here: use a run directory that every node mounts"
            )
        return found

    def _run_on_ray(self, job: _Job, folder: Path) -> None:
        # Imported here so that training in this process never loads Ray.
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        TorchTrainer(
            _work_on_ray,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=self._workers, use_gpu=self._use_gpu, resources_per_worker=self._needs
            ),
            run_config=RunConfig(storage_path=str(folder.absolute() / "ray_train")),
        ).fit()

    @property
    def _needs(self) -> dict[str, float]:
        return {"CPU": self._cpus, **({"GPU": 1.0} if self._use_gpu else {})}

    def _learner(self, checkpoint: Path | None) -> CausalLm:
        path = self._model if checkpoint is None else str(checkpoint)
        if self._loaded is None or self._loaded[0] != path:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            learner = CausalLm(path, max_tokens=self._max_tokens).eval().requires_grad_(False).to(device)
            self._loaded = path, learner
        return self._loaded[1]


def _work_on_ray(config: dict[str, Any]) -> None:
    """Do a job on each worker of Ray Train; TRL finds the others by torch's process group."""
    _work(config["job"])


def _work(job: _Job) -> None:
    """Train and save, score, or both, and keep what TRL measured; its own words would be many, and are left out."""
    trl = load_extra(*_EXTRA)
    with without_bars():
        measured = _measured(trl, job)
    if measured is not None:
        (Path(job.save_to) / _TRL_PICKLES).unlink(missing_ok=True)
        write_json(job.measured, measured)


def _measured(trl: Any, job: _Job) -> dict[str, Any] | None:
    """Do a job; returns what TRL measured, on the first worker."""
    examples, heldout = (
        None if rows is None else _as_dataset(pq.read_table(rows)) for rows in (job.examples, job.heldout)
    )
    adapter = {"peft_config": _adapter(job.lora_rank)} if examples is not None and job.lora_rank else {}
    trainer = trl.SFTTrainer(
        model=job.model,
        args=trl.SFTConfig(**job.settings),
        train_dataset=heldout if examples is None else examples,  # it wants some, trained on or not
        eval_dataset=heldout,
        **adapter,
    )
    scored = job.model if examples is None else job.save_to
    measured: dict[str, Any] = {"model": scored, "heldout": job.heldout}
    if examples is not None:
        measured |= trainer.train().metrics
    if heldout is not None:
        measured |= trainer.evaluate()
    if examples is not None:
        if adapter:
            trainer.model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
        trainer.save_model(job.save_to)
    return measured if trainer.is_world_process_zero() else None


def _read(measured: Path) -> dict[str, Any]:
    """Return what TRL measured; nothing where it has not."""
    try:
        return json.loads(measured.read_text())
    except (OSError, ValueError):
        return {}


def _adapter(rank: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM")


def _as_dataset(table: pa.Table) -> Any:
    """Return the rows under the names that TRL knows: prompt and completion, messages, or text."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    names = [name for name in table.column_names if name not in ("id", "label")]
    if set(_PAIR) <= set(names):
        kept = table.select(list(_PAIR))
    else:
        is_chat = pa.types.is_nested(table.schema.field(names[0]).type)
        kept = table.select(names[:1]).rename_columns(["messages" if is_chat else "text"])
    return Dataset.from_list(kept.to_pylist())
