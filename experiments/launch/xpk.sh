#!/usr/bin/env bash
# Runs on a TPU slice of a GKE cluster with xpk. Create the cluster (`xpk cluster create`) and attach the bucket once:
#
#   xpk storage attach data --type=gcsfuse --cluster="$CLUSTER" --project="$PROJECT" --zone="$ZONE" --bucket="$BUCKET" \
#     --mount-point=/mnt/bucket --readonly=false --size=1 --auto-mount=true
#   export CLUSTER=… PROJECT=… ZONE=… TYPE=v5p-128
#   experiments/launch/xpk.sh swin-g --config=configs/swinv2_3b.py --workdir=/mnt/bucket/runs/g --config.data.path=/mnt/bucket/imagenet22k
set -euo pipefail
name=${1:?name of the workload}
shift
# 75 is "stopped and saved, run me again"; the grace period must be long enough for one save.
xpk workload create --workload="$name" --cluster="${CLUSTER:?}" --project="${PROJECT:?}" --zone="${ZONE:?}" --tpu-type="${TYPE:?}" \
  --num-slices="${SLICES:-1}" --base-docker-image="${IMAGE:-python:3.12}" --script-dir="$(cd "$(dirname "$0")/../.." && pwd)" \
  --max-restarts=1000 --restart-on-exit-codes=75 --termination-grace-period-seconds=300 \
  --command="pip install -q -r requirements.txt 'jax[tpu]' && exec python -m swin_jax.main $(printf '%q ' "$@")"
