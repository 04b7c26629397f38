"""ActiveFineTuner: rounds of embed, select, label, train and evaluate, each step durable before the next."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_itl.core.trajectory import Pick
from ray_itl.errors import RayItlError, RunDirectoryError
from ray_itl.io.atomic import write_parquet_table
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.status import Heartbeat
from ray_itl.options.text import to_yaml
from ray_itl.rounds.data import TuningData, open_tuning_data, tuning_identity
from ray_itl.rounds.divergence import go_on_otherwise
from ray_itl.rounds.heldout import NEAR_HELDOUT_FILE, apart_from_heldout
from ray_itl.rounds.label_files import GivenLabels
from ray_itl.rounds.label_survey import check_labels
from ray_itl.rounds.labelled import labelled_rows, positions_without_label
from ray_itl.rounds.labelling import obtain_labels
from ray_itl.rounds.learner_model import LearnerModel
from ray_itl.rounds.model import RoundModel, Trained
from ray_itl.rounds.own_trainer import OwnTrainer
from ray_itl.rounds.resources import PoolCache, check_room, workers_of
from ray_itl.rounds.result import FineTuning, curves_table
from ray_itl.rounds.round_folder import RoundFolder
from ray_itl.rounds.scores import score_of
from ray_itl.rounds.selecting import RoundSelector
from ray_itl.rounds.settings import FineTuneSettings
from ray_itl.rounds.skipping import passing_over_bad_rows
from ray_itl.rounds.to_label import write_to_label
from ray_itl.rounds.tracking import RoundsTracking
from ray_itl.runs.directory import RunDirectory, RunState
from ray_itl.sources.bad_rows import SKIPPED_FILE
from ray_itl.sources.ids import id_arrow_type
from ray_itl.training.checkpoint import remove_checkpoint


class ActiveFineTuner:
    """Fine-tunes a model on the rows that teach it most about a task, chosen anew with every round's model.

    Each round picks b rows given everything picked before, labels them, trains, and scores the held-out rows. Every
    step is a file in the run directory before the next begins; the same settings on the same directory go on at the
    first step that is missing, and picks and scores equal those of a run that was never interrupted (on CPUs).
    """

    def __init__(
        self, settings: FineTuneSettings, reporter: Reporter | None = None, warns_of_rounds: bool = True
    ) -> None:
        """Take all options; nothing is opened yet.

        Args:
            settings: All options; settings.run.dir must be set.
            reporter: Where progress goes.
            warns_of_rounds: Whether a round is warned of that labelled nothing of the task, or made the score worse.

        Raises:
            MissingExtraError: logging is asked for to a tool that is not installed.
            ConfigError: a trainer of the user's that cannot be used.
        """
        self._settings = settings
        self._reporter = reporter or Reporter(settings.run.log)
        self._warns_of_rounds = warns_of_rounds
        self._score = score_of(settings)
        self._run = RunDirectory(settings.run.dir or "")
        self._tracking = RoundsTracking(settings, self._reporter.warn)
        self._status = Heartbeat(lambda facts: self._run.set_status(**facts))

    def run(self) -> FineTuning:
        """Carry out all rounds, or those that are missing.

        Returns:
            The learning curve, with state "awaiting_labels" where people have yet to label the round's picks.

        Raises:
            InputError, ConfigError: rows or options that cannot be used.
            RunDirectoryError: the directory cannot be written or belongs to another run.
            ShardError, TrainingError: a part of the cluster failed for good; the same call resumes.
        """
        self._settings = self._with_noise()
        model = open_model(self._settings, self._run.path)
        data = open_tuning_data(self._settings)
        state = self._begin(data)
        try:
            with (
                self._status.beating(),
                self._reporter.stage("rounds"),
                self._tracking.running(),
                self._resources(model) as pool_cache,
            ):
                for words in model.remarks(data.raw_type):
                    self._reporter.warn(words)
                data = passing_over_bad_rows(data.held(), self._settings, model.encode, self._run, self._reporter)
                data = apart_from_heldout(data, self._settings, self._run, self._reporter)
                result = self._rounds(data, RoundSelector(data, self._settings, model, pool_cache), model)
                self._tracking.ended(result.state)
                return result
        except BaseException as error:
            with suppress(RunDirectoryError):  # what went wrong first is what matters
                self._status.end(error)
            if state == "new" and isinstance(error, RayItlError) and not (self._run.path / "rounds").exists():
                self._run.abandon(SKIPPED_FILE, NEAR_HELDOUT_FILE)
            raise

    def _with_noise(self) -> FineTuneSettings:
        settings, today = (self._settings.with_noise(identity) for identity in (self._run.identity, {}))
        former, now = (each.acquisition.identity_of("noise_variance") for each in (settings, today))
        noise = settings.acquisition.relative_noise
        if former != now:
            self._reporter.warn(
                f"acquisition.noise_variance: the run goes on with the default that it began with, {former}; a new one "
                f"has {now}"
            )
        elif noise is not None and self._settings.acquisition.relative_noise is None:
            self._reporter.info(
                f"noise variance: {noise:g} times the mean squared norm of a round's rows (acquisition.relative_noise)"
            )
        return settings

    def _begin(self, data: TuningData) -> RunState:
        """Check what can be before any work, and claim the run directory; returns the state found."""
        if RoundFolder(self._run.path, 0).read_record() is None:
            check_labels(data, self._settings.labels.source == "column", self._reporter.warn)
        identity, config = tuning_identity(data, self._settings), to_yaml(self._settings)
        if (otherwise := go_on_otherwise(self._run, identity, config)) is not None:
            self._reporter.warn(otherwise)
        state = self._run.begin(identity, {}, config)
        if state != "new":
            self._reporter.info(f"continuing the run in {self._run.path}")
        return state

    @contextmanager
    def _resources(self, model: RoundModel) -> Iterator[PoolCache]:
        settings = self._settings
        with ExitStack() as stack:
            if settings.cluster.num_shards != 0 or settings.trainer.is_on_ray:
                # Imported here so that runs in this process never load Ray.
                from ray_itl.cluster.connection import connect

                stack.enter_context(connect(settings.cluster.address, notify=self._reporter.info))
                check_room(settings.cluster, settings.trainer)
            self._reporter.on_waiting = self._status.waiting
            beside = workers_of(settings.trainer)
            pool_cache = PoolCache(settings.cluster, settings.embedding.dtype, self._reporter, beside)
            stack.enter_context(pool_cache)
            stack.enter_context(model.ready(self._reporter.waiting))
            yield pool_cache

    def _rounds(self, data: TuningData, selector: RoundSelector, model: RoundModel) -> FineTuning:
        records = [self._before_training(data, model)]
        self._tracking.round(records[0])
        earlier: list[Pick] = []
        for number in range(1, self._settings.rounds.count + 1):
            folder = RoundFolder(self._run.path, number)
            record = folder.read_record()
            if record is None:
                self._tell("running", round=number)
                record = self._round(data, selector, model, folder, earlier)
                self._drop_checkpoints(selector, number)
            if isinstance(record, GivenLabels):
                return self._wait(records, folder, record, model.checkpoint_after(number - 1))
            earlier.extend(folder.read_picks() or [])
            records.append(record)
            if self._warns_of_rounds:
                self._warn_of(record)
            self._tracking.round(record)
            self._reporter.round(self._line(record), {**record, "of": self._settings.rounds.count})
        self._tell("finished")
        last = model.checkpoint_after(self._settings.rounds.count)
        return FineTuning("finished", self._write_curves(records), self._run.path, _path(last))

    def _round(
        self,
        data: TuningData,
        selector: RoundSelector,
        model: RoundModel,
        folder: RoundFolder,
        earlier: Sequence[Pick],
    ) -> dict[str, Any] | GivenLabels:
        """Carry out one round from its first missing step; returns its figures, or the labels it cannot go on with."""
        folder.create()
        settings, seconds, drift = self._settings, {}, None
        picks = folder.read_picks()
        if picks is None:
            selected = selector.select(folder, earlier, positions_without_label(data, folder))
            picks, seconds, drift = selected.picks, selected.seconds, selected.drift
            where = data.pool.locate(np.array([pick.position for pick in picks], dtype=np.int64))
            folder.write_picks(picks, id_arrow_type(data.pool.id_kind), where)
        # A language model learns from the rows themselves: labels, where given, only say which are on task.
        if settings.data.classes:
            given = obtain_labels(folder, data.pool, picks, settings.data, settings.labels)
            if not given.suffice(settings.labels.wait_for):
                problem = write_to_label(folder, data.pool, picks, settings, given)
                if problem is not None:
                    self._reporter.warn(problem)
                return given
            self._tell_of_gaps(folder, given)
        began = time.perf_counter()
        labelled = labelled_rows(data, folder, earlier, picks)
        has_any = len(labelled.positions) > 0
        if has_any:
            model.write_examples(data, folder, labelled)
        seconds["prepare"] = time.perf_counter() - began
        began = time.perf_counter()
        before = RoundFolder(self._run.path, folder.number - 1).read_record()
        assert before is not None, "rounds are finished in order"
        # With nothing to train on yet, the model stays and keeps its scores.
        trained = model.train(folder) if has_any else _unchanged(before)
        seconds["train"] = time.perf_counter() - began
        record = {"round": folder.number, **labelled.counts, **_figures(trained), "seconds": seconds}
        record["drift"] = _finite(drift or {})
        if (fall := self._score.fall(before, record, data.heldout.num_rows)) is not None:
            record["warning"] = fall
        folder.write_record(record)
        return record

    def _drop_checkpoints(self, selector: RoundSelector, number: int) -> None:
        """Remove the weights that no round after `number` needs, where those of all rounds are not to be kept."""
        if self._settings.rounds.keep_checkpoints == "all" or RoundFolder(self._run.path, number).read_record() is None:
            return
        needed = selector.checkpoints_needed(number + 1)
        for earlier in range(1, number):
            path = RoundFolder(self._run.path, earlier).checkpoint
            if str(path) not in needed:
                remove_checkpoint(path)

    def _before_training(self, data: TuningData, model: RoundModel) -> dict[str, Any]:
        """Return the record of round 0: the model as it comes, scored on the held-out rows."""
        folder = RoundFolder(self._run.path, 0)
        record = folder.read_record()
        if record is None:
            scores = _figures(model.before_training(data))
            folder.create()
            record = {"round": 0, "num_labelled": 0, "num_on_task": 0, "num_trained": 0, **scores}
            folder.write_record(record)
        return record

    def _tell(self, state: str, **facts: Any) -> None:
        warned = {"warnings": list(self._reporter.warnings)} if self._reporter.warnings else {}
        self._status.tell({"state": state, "rounds": self._settings.rounds.count, **facts, **warned})

    def _warn_of(self, record: dict[str, Any]) -> None:
        """Warn of a round that labelled nothing of the task, and of one after which the score is worse."""
        if self._settings.data.classes and record["num_new_on_task"] == 0:
            self._reporter.warn(
                f"round {record['round']}: none of its {self._settings.rounds.batch:,} rows is of "
                f"data.classes={self._settings.data.classes}"
            )
        if "warning" in record:
            self._reporter.warn(record["warning"])

    def _tell_of_gaps(self, folder: RoundFolder, given: GivenLabels) -> None:
        """Tell of rows that a round goes on without; a language model learns from rows with and without a label."""
        needs_labels = self._settings.model.objective == "classification"
        if given.missing:
            late = "; labels that come later are trained on from the next round" if needs_labels else ""
            self._reporter.warn(f"round {folder.number} goes on (labels.wait_for=any): {given}{late}")
        elif given.skipped:
            words = "; skipped rows are not trained on" if needs_labels else ""
            self._reporter.info(f"round {folder.number}: {given}{words}")

    def _wait(
        self, records: Sequence[dict[str, Any]], folder: RoundFolder, given: GivenLabels, checkpoint: str | None
    ) -> FineTuning:
        counts = {"labelled": given.num_labelled, "skipped": len(given.skipped), "missing": len(given.missing)}
        self._tell("awaiting_labels", round=folder.number, labels=str(folder.labels), **counts)
        curves = self._write_curves(records)
        return FineTuning("awaiting_labels", curves, self._run.path, _path(checkpoint), folder.labels, given)

    def _write_curves(self, records: Sequence[dict[str, Any]]) -> pa.Table:
        curves = curves_table(records)
        write_parquet_table(self._run.path / "learning_curves.parquet", curves)
        return curves

    def _line(self, record: dict[str, Any]) -> str:
        stopped = f" ({record['stopped']})" if record.get("stopped") else ""
        return (
            f"round {record['round']} of {self._settings.rounds.count}: {record['num_labelled']:,} labelled, "
            f"{record['num_on_task']:,} on task, {self._score.words(record)}{stopped}"
        )


def open_model(settings: FineTuneSettings, run: Path) -> RoundModel:
    """Return the model that the options ask for; reads and writes nothing of the run.

    Raises:
        ConfigError: a trainer of the user's that cannot be used.
    """
    return OwnTrainer(settings, run) if settings.trainer.is_own else LearnerModel(settings, run)


def _figures(trained: Trained) -> dict[str, Any]:
    """Return what a round's record says of a training; what is not known is left out."""
    confusion = {} if trained.confusion is None else {"confusion": trained.confusion}
    return {"heldout": trained.heldout, **confusion, **({"stopped": trained.stopped} if trained.stopped else {})}


def _unchanged(before: dict[str, Any]) -> Trained:
    return Trained(before["heldout"], before.get("confusion"))


def _path(checkpoint: str | None) -> Path | None:
    return None if checkpoint is None else Path(checkpoint)


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    """Return figures with null for what is not a number, which JSON has no word for."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
