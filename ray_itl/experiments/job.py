"""What `ray-itl finetune` does: one active fine-tuning, or a sweep of variants and seeds, on given or prepared rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_itl.errors import ConfigError
from ray_itl.experiments.cache import cache_root
from ray_itl.experiments.models import smollm2_folder
from ray_itl.experiments.tasks import TASKS, Task
from ray_itl.io.atomic import write_atomic, write_json
from ray_itl.observability.console import JobSummary
from ray_itl.observability.reporter import Reporter
from ray_itl.observability.settings import absolute_tracking
from ray_itl.options.text import with_overrides
from ray_itl.rounds.comparison import Comparison
from ray_itl.rounds.group_settings import ModelSettings, TaskSettings
from ray_itl.rounds.report import build_learning_report, sweep_comparison, write_tuning_report
from ray_itl.rounds.result import FineTuning
from ray_itl.rounds.scores import score_of
from ray_itl.rounds.seed_curves import gaps, seed_curves
from ray_itl.rounds.settings import FineTuneJobSettings, FineTuneSettings
from ray_itl.rounds.sweep import Member, run_sweep, with_member
from ray_itl.rounds.sweep_table import short_text, sweep_figures, sweep_text
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
    if not settings.sweep.all_variants:
        one = _fine_tuning(settings, settings.rounds.seed, reporter)
        result = ActiveFineTuner(one, reporter).run()
        curves = with_member(result.curves, (one.acquisition.name, one.rounds.seed))
        _report(curves, one, {one.acquisition.name: [result.path]}, (), reporter)
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
    """Return the settings of every variant and seed, each with a run directory of its own below run.dir.

    Raises:
        ConfigError: a variant whose options cannot be used (before any data is fetched).
    """
    sweep, members = settings.sweep, {}
    for name, changes in sweep.chosen_variants.items():
        _variant(_own_options(settings), name, changes)
    for seed in range(sweep.first_seed, sweep.first_seed + sweep.seeds):
        base = _fine_tuning(settings, seed, reporter)
        for name, changes in sweep.chosen_variants.items():
            chosen = _variant(base, name, changes)
            folder = Path(str(settings.run.dir)) / name / f"seed-{seed}"
            title = f"{settings.tracking.run_name or Path(str(settings.run.dir)).name}/{name}/seed-{seed}"
            members[name, seed] = replace(
                chosen,
                run=replace(chosen.run, dir=str(folder), log="quiet", report=False),
                tracking=replace(chosen.tracking, run_name=title),
            )
    return members


def _variant(base: FineTuneSettings, name: str, changes: Mapping[str, Any]) -> FineTuneSettings:
    try:
        return with_overrides(base, changes)
    except ConfigError as error:
        raise ConfigError(f"sweep, variant {name}: {error}") from error


def _sweep(settings: FineTuneJobSettings, reporter: Reporter) -> JobSummary:
    folder, sweep = Path(str(settings.run.dir)), settings.sweep
    members = sweep_members(settings, reporter)
    folder.mkdir(parents=True, exist_ok=True)
    one = replace(next(iter(members.values())), run=replace(settings.run, dir=str(folder)))
    references, score = [sweep.reference, *sweep.other_references], score_of(one)

    def write_tables(curves: pa.Table) -> Comparison:
        """Write what the curves so far say, and return it."""
        notes = gaps(seed_curves(curves, score.column), {name: _seeds(members, name) for name, _ in members})
        found = sweep_comparison(curves, one, references)
        write_atomic(folder / "table.md", sweep_text(found, score, notes).encode() + b"\n")
        write_json(folder / "metrics.json", sweep_figures(found, score))
        return found

    curves = run_sweep(members, folder, sweep.num_processes, reporter, write_tables)
    found = write_tables(curves)
    variants = {name: [Path(str(members[name, seed].run.dir)) for seed in _seeds(members, name)] for name, _ in members}
    # Classes that each seed draws for itself are not one class by their number.
    has_same_classes = len({str(member.data.classes) for member in members.values()}) == 1
    _report(curves, one, variants if has_same_classes else {}, references, reporter)
    headline = f"{plural(len(members), 'run')} of {plural(len(variants), 'variant')} finished"
    files = "table.md, metrics.json, learning_curves.parquet, report.html"
    details = f"{short_text(found, score)}\n\nresults: {folder} ({files})"
    return JobSummary(headline, details, sweep_figures(found, score), {"results": str(folder)})


def _seeds(members: Iterable[Member], name: str) -> list[int]:
    return [seed for variant, seed in members if variant == name]


def _report(
    table: pa.Table,
    settings: FineTuneSettings,
    runs: Mapping[str, Sequence[Path]],
    references: Sequence[str],
    reporter: Reporter,
) -> None:
    folder = Path(str(settings.run.dir))
    title = f"Active fine-tuning: {folder.name}"
    report = build_learning_report(table, settings, title, references, reporter.warnings, runs)
    if problem := write_tuning_report(report, folder):
        reporter.warn(problem)


def _fine_tuning(settings: FineTuneJobSettings, seed: int, reporter: Reporter) -> FineTuneSettings:
    """Return the settings of one fine-tuning, with the task's rows and the seed filled in."""
    values = vars(_own_options(settings)).copy()
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


def _own_options(settings: FineTuneJobSettings) -> FineTuneSettings:
    """Return what the settings say of a single fine-tuning."""
    return FineTuneSettings(**{each.name: getattr(settings, each.name) for each in fields(FineTuneSettings)})


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
