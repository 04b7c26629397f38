"""Planning a run for machines that are not at hand, by measurements of this one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from ray_itl.core.block_schedule import BlockSchedule
from ray_itl.core.screening.arithmetic import multiply_integers
from ray_itl.curation.demo import digits_settings
from ray_itl.curation.machine_plan import GPU_BYTES_PER_S, RAYS_SHARE, CoreRates, MachinePlan, Tier
from ray_itl.curation.machine_settings import MachineSettings
from ray_itl.curation.percentage import number_among
from ray_itl.curation.planning import checked, expected_passes, left_words, survey_of
from ray_itl.curation.pool import storage_options
from ray_itl.curation.rates import COLUMNS, measure_rates
from ray_itl.curation.settings import CurationSettings
from ray_itl.distributed.placement import ShardPlan, plan_shards_for
from ray_itl.distributed.settings import ClusterSettings
from ray_itl.io.temporary import temporary_folder
from ray_itl.shards.cache import ShardCache
from ray_itl.shards.footprint import PROCESS_BYTES, Screening, Storage, StorageOptions
from ray_itl.text import parse_size

_TYPES = ("float32", "bfloat16")
_KEPT: tuple[tuple[Storage, Screening], ...] = (
    ("memory", "int8"),
    ("memory", "float32"),
    ("disk", "int8"),
    ("disk", "float32"),
)
_PLANES, _REPEATS = 3, 6


def plan_for_machines(
    machines: MachineSettings,
    dim: int,
    num_rows: int,
    num_picks: int,
    passes: tuple[int, int],
    cluster: ClusterSettings,
    storage: StorageOptions,
    rates: CoreRates,
) -> MachinePlan:
    """Plan for machines that are not at hand; the table has every way to keep rows, those that do not fit, too."""
    schedule = BlockSchedule().fit(dim, num_rows)
    tiers = [
        _tier(machines, dim, num_rows, dtype, replace(storage, storage=kept, screening=screening), cluster, rates)
        for dtype in _TYPES
        for kept, screening in (_KEPT if not machines.gpus else _KEPT[:2])
    ]
    return MachinePlan(
        machines=machines,
        num_rows=num_rows,
        dim=dim,
        num_picks=num_picks,
        passes=passes,
        tiers=tuple(tiers),
        driver_bytes=schedule.driver_bytes(dim, num_rows, _TYPES[0]) + 8 * dim * min(dim, num_picks),
        driver_s=num_picks * rates.pick_s,
        rates=rates,
    )


def _tier(
    machines: MachineSettings,
    dim: int,
    num_rows: int,
    dtype: str,
    storage: StorageOptions,
    cluster: ClusterSettings,
    rates: CoreRates,
) -> Tier:
    memory = parse_size("plan.memory", machines.memory) or 0
    gpu_memory = parse_size("plan.gpu_memory", machines.gpu_memory) or 0
    options = replace(cluster, gpus_per_shard=1.0 if machines.gpus else 0.0)
    if options.num_shards == 0:  # of this process: there is a cluster there
        options = replace(options, num_shards="auto")
    node = {"CPU": float(machines.cpus or 1), "memory": RAYS_SHARE * memory, "GPU": float(machines.gpus)}
    unbounded = replace(storage, memory_per_shard=None, cache_limit=None)
    shards = plan_shards_for(num_rows, dim, dtype, [node] * machines.nodes, options, unbounded)
    rows, on_a_node = -(-num_rows // shards.num_shards), -(-shards.num_shards // machines.nodes)
    taken = on_a_node * (shards.memory(rows, dim) + PROCESS_BYTES)
    fits = taken <= RAYS_SHARE * memory
    if machines.gpus:
        on_a_gpu = -(-on_a_node // machines.gpus)
        fits = fits and on_a_gpu * shards.footprint(rows, dim).gpu_bytes <= gpu_memory
    disk = on_a_node * storage.disk_bytes(rows, dim, dtype, shards.disk_copy_bytes) if shards.on_disk else 0
    free = parse_size("plan.disk", machines.disk)
    load_s, pass_s = _seconds(shards, rows, dim, on_a_node, disk, storage.screening, rates)
    holds = None if free is None else disk <= free
    return Tier(shards, storage.screening, taken, fits, disk, holds, load_s, pass_s)


def _seconds(
    shards: ShardPlan, rows: int, dim: int, on_a_node: int, disk: int, screening: Screening, rates: CoreRates
) -> tuple[float, float]:
    """Return the seconds of loading and of a pass, of the machine that has most to do."""
    footprint, written = shards.footprint(rows, dim), disk / rates.disk_bytes
    load_s = rows / rates.load_rows + written
    read = shards.copy_bytes * rows if shards.copy_bytes else footprint.feature_bytes
    if shards.num_gpus:
        return load_s, read / GPU_BYTES_PER_S
    all_threads = rates.integer_rows if screening == "int8" and rates.integer_rows else rates.pass_rows
    computing = rows * rates.num_threads / (all_threads * shards.num_threads)
    from_disk = shards.on_disk and (not shards.copy_bytes or shards.copies_on_disk)
    return load_s, max(computing, on_a_node * read / rates.disk_bytes if from_disk else 0.0)


def planned_elsewhere(settings: CurationSettings, machines: MachineSettings) -> MachinePlan:
    """Plan the run of some settings for machines that are not at hand, and leave nothing behind.

    Raises:
        InputError, ConfigError: as the run itself would, but for what machines hold: that is in the table.
    """
    with temporary_folder("plan") if settings.pool.path is None else nullcontext(Path()) as folder:
        settings = digits_settings(settings, folder) if settings.pool.path is None else settings
        asked = settings.selection.n
        if machines.rows is not None:  # the pool at hand may have fewer rows than are to be picked
            settings = replace(settings, selection=replace(settings.selection, n=1))
        problem, settings, told = checked(settings)
        rows, storage = machines.rows or problem.source.num_rows, storage_options(problem, settings)
        if machines.rows is not None:
            settings = replace(settings, selection=replace(settings.selection, n=number_among(asked, rows)))
        embedding = survey_of(problem, tries_known=rows > problem.source.num_rows)
        folder, may_be_bad = ShardCache(storage.cache_folder).folder, settings.pool.on_bad_row == "skip"
        rates = measure_rates(problem, folder, may_be_bad, embedding)
        here = CoreRates(
            num_threads=torch.get_num_threads(),
            load_rows=rates.load_rows,
            pass_rows=rates.pass_rows,
            integer_rows=_integer_rate(problem.dim),
            disk_bytes=rates.disk_bytes or 1.0,
            pick_s=_pick_seconds(problem.dim, rows),
        )
        n, passes = settings.selection.n, expected_passes(settings)
        plan = plan_for_machines(machines, problem.dim, rows, n, passes, settings.cluster, storage, here)
        embedding = None if embedding is None else embedding.of(rows)
        return replace(plan, embedding=embedding, told=tuple(told), left=left_words(settings))


def _integer_rate(dim: int) -> float | None:
    """Measure the rows a second of a pass in int8, with three planes for each column; None where torch cannot."""
    rows = torch.ones(8192, dim, dtype=torch.int8)
    planes = torch.ones(dim, _PLANES * COLUMNS, dtype=torch.int8)
    try:
        return len(rows) / _best(lambda: multiply_integers(rows, planes))
    except (RuntimeError, AttributeError):
        return None


def _pick_seconds(dim: int, num_rows: int) -> float:
    """Measure the driver's work for a pick: a product of all candidates, at their most, with the pick's columns."""
    held = torch.ones(min(BlockSchedule().fit(dim, num_rows).max_candidates, num_rows), dim)
    columns = torch.ones(dim, 2)
    return _best(lambda: held @ columns)


def _best(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return max(best, 1e-9)
