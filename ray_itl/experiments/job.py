"""What `ray-itl finetune` does: one active fine-tuning, or a sweep of variants and seeds, on given or prepared rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_itl.errors import ConfigError
from ray_itl.experiments.cache import cache_root
from ray_itl.experiments.models import smollm2_folder
from ray_itl.experiments.tasks import TASKS, Task
from ray_itl.io.atomic import write_atomic
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.settings import absolute_tracking
from ray_itl.options.text import with_overrides
from ray_itl.report.learning_data import LearningRow
from ray_itl.rounds.report import build_learning_report, sweep_standings, write_tuning_report
from ray_itl.rounds.result import FineTuning
from ray_itl.rounds.scores import score_of
from ray_itl.rounds.settings import FineTuneJobSettings, FineTuneSettings, ModelSettings, TaskSettings
from ray_itl.rounds.sweep import Member, run_sweep, standings_table, with_member
from ray_itl.rounds.tracking import RoundsTracking
from ray_itl.rounds.tuner import ActiveFineTuner
from ray_itl.runs.paths import absolute_path, run_directory
from ray_itl.text import plural


def run_experiment(settings: FineTuneJobSettings, reporter: Reporter) -> JobSummary:
    """Run what the settings ask for and return what to say at the end.

    Raises:
        RayItlError: as `ActiveFineTuner.run`; the same call resumes.
    """
    settings = _with_absolute_paths(settings)
    if not settings.sweep.variants:
        one = _fine_tuning(settings, settings.rounds.seed, reporter)
        result = ActiveFineTuner(one, reporter).run()
        curves = with_member(result.curves, (one.acquisition.name, one.rounds.seed))
        _report(curves, one, {one.acquisition.name: [result.path]}, None, reporter)
        RoundsTracking(one, reporter.warn).keep_report(result.state)
        return _summary_of_one(result)
    return _sweep(settings, reporter)


def _with_absolute_paths(settings: FineTuneJobSettings) -> FineTuneJobSettings:
    """Return the settings with absolute paths, so that config.yaml replays the run from any working directory."""
    data, model = settings.data, settings.model
    paths = {name: absolute_path(getattr(data, name)) for name in ("pool", "target", "heldout")}
    return replace(
        settings,
        data=replace(data, **paths),
        model=replace(model, checkpoint=absolute_path(model.checkpoint)),
        run=replace(settings.run, dir=run_directory(settings.run.dir)),
        tracking=absolute_tracking(settings.tracking),
    )


def sweep_members(settings: FineTuneJobSettings, reporter: Reporter) -> dict[Member, FineTuneSettings]:
    """Return the settings of every variant and seed, each with a run directory of its own below run.dir."""
    members = {}
    for seed in range(settings.sweep.seeds):
        base = _fine_tuning(settings, seed, reporter)
        for name, overrides in settings.sweep.variants.items():
            if settings.sweep.only and name not in settings.sweep.only:
                continue
            chosen = with_overrides(base, overrides or {})
            folder = Path(str(settings.run.dir)) / name / f"seed-{seed}"
            title = f"{settings.tracking.run_name or Path(str(settings.run.dir)).name}/{name}/seed-{seed}"
            members[name, seed] = replace(
                chosen,
                run=replace(chosen.run, dir=str(folder), log="quiet", report=False),
                tracking=replace(chosen.tracking, run_name=title),
            )
    return members


def _sweep(settings: FineTuneJobSettings, reporter: Reporter) -> JobSummary:
    folder = Path(str(settings.run.dir))
    members = sweep_members(settings, reporter)
    folder.mkdir(parents=True, exist_ok=True)
    table = run_sweep(members, folder, settings.sweep.num_processes, reporter)
    one, reference = next(iter(members.values())), settings.sweep.reference
    found = sweep_standings(table, one, reference)
    budget = settings.rounds.count * settings.rounds.batch
    text = standings_table(found, score_of(one).title, reference, settings.sweep.seeds, budget)
    write_atomic(folder / "table.md", text.encode() + b"\n")
    variants: dict[str, list[Path]] = {}
    for (name, _), member in members.items():
        variants.setdefault(name, []).append(Path(str(member.run.dir)))
    _report(table, replace(one, run=replace(one.run, dir=str(folder))), variants, reference, reporter)
    headline = f"{plural(len(members), 'run')} of {plural(len(variants), 'variant')} finished"
    details = f"{text}\n\nresults: {folder} (table.md, learning_curves.parquet, report.html)"
    return JobSummary(
        headline, details, {"variants": [_row_in_figures(row) for row in found]}, {"results": str(folder)}
    )


def _row_in_figures(row: LearningRow) -> dict[str, Any]:
    """Return how a variant ended, for machines."""
    name, *figures = row
    return {"variant": name, **dict(zip(row._fields[1:], figures, strict=True))}


def _report(
    table: pa.Table,
    settings: FineTuneSettings,
    runs: Mapping[str, Sequence[Path]],
    reference: str | None,
    reporter: Reporter,
) -> None:
    folder = Path(str(settings.run.dir))
    title = f"Active fine-tuning: {folder.name}"
    report = build_learning_report(table, settings, title, reference, reporter.warnings, runs)
    if problem := write_tuning_report(report, folder):
        reporter.warn(problem)


def _fine_tuning(settings: FineTuneJobSettings, seed: int, reporter: Reporter) -> FineTuneSettings:
    """Return the settings of one fine-tuning, with the task's rows and the seed filled in."""
    values: dict[str, Any] = {f.name: getattr(settings, f.name) for f in fields(FineTuneSettings)}
    if settings.task.name is not None:
        task = prepared_task(settings.task, seed, reporter)
        values["data"] = replace(
            settings.data,
            pool=str(task.pool),
            target=str(task.target),
            heldout=str(task.heldout),
            id_column=task.id_column,
            raw_column=task.input_column,
            label_column=task.label_column,
            classes=list(task.classes),
        )
    values["model"] = _with_local_model(settings, reporter)
    values["rounds"] = replace(settings.rounds, seed=seed)
    return FineTuneSettings(**values)


def _with_local_model(settings: FineTuneJobSettings, reporter: Reporter) -> ModelSettings:
    """Return the model's settings with the path smollm2 replaced by a folder of that model, fetched on first use."""
    model = settings.model
    if model.name != "causal_lm" or model.options.get("path") != "smollm2":
        return model
    folder = smollm2_folder(cache_root(settings.task.cache), reporter.info)
    return replace(model, options={**model.options, "path": str(folder)})


def prepared_task(settings: TaskSettings, seed: int, reporter: Reporter) -> Task:
    """Fetch and prepare a task's data on first use.

    Raises:
        ConfigError: there is no task of this name.
        InputError: the data cannot be had.
    """
    if settings.name not in TASKS:
        raise ConfigError(f"task.name={settings.name!r} is not known: use one of {', '.join(TASKS)}")
    return TASKS[settings.name](cache_root(settings.cache), seed, reporter.info, **settings.options)


def _summary_of_one(result: FineTuning) -> JobSummary:
    paths = {"results": str(result.path)} | ({"weights": str(result.checkpoint)} if result.checkpoint else {})
    if result.waiting_for is not None:
        return _awaiting(result, result.waiting_for, paths)
    last = result.curves.slice(len(result.curves) - 1).to_pylist()[0]
    scores = {name.removeprefix("heldout."): value for name, value in last.items() if name.startswith("heldout.")}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items() if "class_" not in name)
    headline = (
        f"{plural(last['round'], 'round')}, {plural(last['num_labelled'], 'row')} labelled, {last['num_on_task']:,} on "
        f"task; held-out rows: {shown}"
    )
    counts = {name: last[name] for name in ("round", "num_labelled", "num_on_task")}
    details = f"results: {result.path}\nweights: {result.checkpoint}"
    return JobSummary(headline, details, {"state": result.state, **counts, "heldout": scores}, paths)


def _awaiting(result: FineTuning, labels: Path, paths: dict[str, str]) -> JobSummary:
    """Return the ending of a run that waits for people's labels."""
    page, table, rows = (labels.with_name(f"to_label.{kind}") for kind in ("html", "csv", "parquet"))
    ways = f"open {page} in a browser" if page.exists() else f"fill in the column label of {table}"
    headline = f"awaiting labels of round {int(labels.parent.name)}: {result.labels}"
    details = (
        f"next:    {ways}, put the labels.csv that it gives into {labels.parent}, and run the same command again\n"
        f"or:      write {labels} (columns id and label) for the rows of {rows}"
    )
    paths |= {"to_label": str(rows), "labels": str(labels)} | ({"page": str(page)} if page.exists() else {})
    given = result.labels
    facts = {} if given is None else {"labelled": given.num_labelled, "missing": len(given.missing)}
    return JobSummary(headline, details, {"state": result.state, **facts}, paths)
