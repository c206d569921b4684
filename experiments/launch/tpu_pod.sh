#!/usr/bin/env bash
# Creates a TPU pod slice with plain gcloud, sets it up, and runs a command on all hosts until it is done.
#
#   export TPU=g ZONE=us-east5-a TYPE=v5p-128 RUNTIME=v2-alpha-tpuv5 BUCKET=my-bucket REPOSITORY=https://…/swin_jax.git
#   experiments/launch/tpu_pod.sh create && experiments/launch/tpu_pod.sh setup
#   experiments/launch/tpu_pod.sh run --config=configs/swinv2_3b.py --workdir=/mnt/bucket/runs/g --config.data.path=/mnt/bucket/imagenet22k
#   experiments/launch/tpu_pod.sh stop      # SIGTERM: saves, ends with 75
#   experiments/launch/tpu_pod.sh delete
set -euo pipefail
: "${TPU:?name of the slice}" "${ZONE:?}"

on_all_hosts() { gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"; }

case ${1:?create, setup, run, stop or delete} in
  create)
    gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" --accelerator-type="${TYPE:?}" --version="${RUNTIME:?}" ${SPOT:+--spot} ;;
  setup)
    on_all_hosts "set -e
      test -d swin_jax || git clone -q '${REPOSITORY:?}' swin_jax
      cd swin_jax && python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt 'jax[tpu]'
      if ! command -v gcsfuse >/dev/null; then
        echo \"deb https://packages.cloud.google.com/apt gcsfuse-\$(lsb_release -cs) main\" | sudo tee /etc/apt/sources.list.d/gcsfuse.list
        curl -s https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /etc/apt/trusted.gpg.d/gcsfuse.asc >/dev/null
        sudo apt-get update -qq && sudo apt-get install -y -qq gcsfuse
      fi
      sudo mkdir -p /mnt/bucket && sudo chown \$USER /mnt/bucket
      mountpoint -q /mnt/bucket || gcsfuse --implicit-dirs '${BUCKET:?}' /mnt/bucket" ;;
  run)
    shift
    # One command for all hosts: on a pod slice the processes find one another. A host that restarts waits for the others.
    on_all_hosts "cd swin_jax && RESTARTS=20 PATH=\$PWD/.venv/bin:\$PATH experiments/launch/run_until_done.sh python -m swin_jax.main $(printf '%q ' "$@")" ;;
  stop)
    on_all_hosts "pkill -TERM -f run_until_done.sh" ;;
  delete)
    gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" --quiet ;;
  *)
    echo "$1: there are create, setup, run, stop and delete" >&2; exit 2 ;;
esac
