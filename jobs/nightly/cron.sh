#!/bin/bash
# A tick every night by cron, on one machine or (with RAY_ADDRESS set) on a cluster: in `crontab -e`
#   0 3 * * * /srv/ray_itl/jobs/nightly/cron.sh pool.path=/data/pool target.path=/data/target.parquet selection.n=1000 state.dir=/data/state
# A tick is named by its day, in UTC, so that one that cron starts twice is done once. Where another is at work, or files
# are still being written (exit code 75), it is tried again for a while. What it says goes to $LOG, or to
# ray-itl-nightly.log at home.
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
if [[ -e .venv/bin/activate ]]; then
  . .venv/bin/activate
fi
day=${DAY:-$(date -u +%F)}
tries=${TRIES:-6} pause_s=${PAUSE_S:-600}
exec >> "${LOG:-$HOME/ray-itl-nightly.log}" 2>&1
for ((k = 1; k <= tries; k++)); do
  ray-itl curate state.tick="$day" state.wait_s="$pause_s" run.log=lines "$@"
  code=$?
  if ((code != 75)); then
    exit "$code"
  fi
  echo "try $k of $tries for tick $day: again in $pause_s s"
  sleep "$pause_s"
done
exit 75
