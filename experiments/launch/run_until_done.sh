#!/usr/bin/env bash
# Runs a command, and again for as long as it ends with 75: "stopped and saved, run me again". With RESTARTS=n also up to n times after
# any other failure but bad input (2) and Ctrl-C (130): a process ends like that when another one of its run has died.
#
#   experiments/launch/run_until_done.sh python -m swin_jax.main --config=… --workdir=…
restarts=${RESTARTS:-0}
stopping=
trap 'stopping=1; kill -TERM "$child"' TERM
while true; do
  [ -z "$stopping" ] || exit 75  # between two runs
  "$@" &
  child=$!
  wait "$child"; code=$?
  if [ -n "$stopping" ]; then wait "$child"; exit $?; fi  # this machine is going: someone else runs us again
  case $code in
    75) ;;
    0|2|130) exit "$code" ;;
    *) [ "$restarts" -gt 0 ] || exit "$code"; restarts=$((restarts - 1)); sleep "${RESTART_SECONDS:-10}" ;;
  esac
done
