"""A tick every night by Airflow 3: put this file into the folder of its DAGs.

A tick is named by the day that was due, so that retries and cleared runs do it once. Exit code 75 (another tick is at
work, or files are still being written) fails a try like any other: the next one goes on half an hour later.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

OPTIONS = "pool.path=/data/pool target.path=/data/target.parquet selection.n=1000 selection.min_gain=0.001"

with DAG(
    "ray_itl_nightly",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=30)},
) as dag:
    BashOperator(
        task_id="tick",
        bash_command=f"ray-itl curate {OPTIONS} state.dir=/data/state state.tick={{{{ ds }}}} state.wait_s=900",
        append_env=True,  # RAY_ADDRESS and RAY_AUTH_TOKEN of the worker name the cluster; without, it is this machine
    )
