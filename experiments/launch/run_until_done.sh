#!/usr/bin/env bash
# Runs a command, and repeats it as long as it exits with 75 ("stopped and saved, run me again"). With RESTARTS=n,
# it also repeats the command up to n times after any other failure except bad input (2) and Ctrl-C (130), because
# a process fails in this way when another process of its run has died.
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
