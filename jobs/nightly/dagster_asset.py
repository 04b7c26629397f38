"""A tick every night by Dagster: `dagster dev -f jobs/nightly/dagster_asset.py`.

The picks are an asset with a partition for each day, which names the tick: one that is materialized again is not picked
again. After exit code 75 (another tick is at work, or files are still being written) it is tried again in half an hour.
"""

import subprocess

import dagster as dg

OPTIONS = ["pool.path=/data/pool", "target.path=/data/target.parquet", "selection.n=1000", "selection.min_gain=0.001"]
TRY_LATER = 75
days = dg.DailyPartitionsDefinition(start_date="2026-01-01")


@dg.asset(partitions_def=days)
def picks(context: dg.AssetExecutionContext) -> None:
    """The rows worth adding of what came until that day: /data/state has them all."""
    names = ["state.dir=/data/state", f"state.tick={context.partition_key}", "state.wait_s=900"]
    ran = subprocess.run(["ray-itl", "curate", *OPTIONS, *names], check=False)
    if ran.returncode == TRY_LATER:
        raise dg.RetryRequested(max_retries=3, seconds_to_wait=1800)
    if ran.returncode:
        raise dg.Failure(f"ray-itl ended with exit code {ran.returncode}: its last line says why", allow_retries=False)


nightly = dg.build_schedule_from_partitioned_job(
    dg.define_asset_job("nightly", selection=[picks], partitions_def=days), hour_of_day=3
)
defs = dg.Definitions(assets=[picks], schedules=[nightly])
