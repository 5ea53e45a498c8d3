#!/usr/bin/env bash
# One program on all workers of a Cloud TPU VM slice, from your own machine:
#
#   bash launch/tpu_pod.sh NAME ZONE train semantic_base \
#       --gin.MODEL_DIR="'/mnt/bucket/semantic'" \
#       --gin.CACHE_DIR="'/mnt/bucket/cache'"
#
# (folders that every worker sees, such as a bucket mounted by gcsfuse).
#
# Copies the commit that is checked out to every worker, prepares its
# environment from the lock files, runs the command on all of them as one
# program, and collects a log from each in LOG_DIR (default: ./NAME_logs).
#
# A preempted slice is made anew and goes on from the newest checkpoint, if it
# is known what to make: ACCELERATOR=v5litepod-256 VERSION=v2-alpha-tpuv5-lite,
# and SPOT=1 for a spot slice. A slice that is not there at the start is made as
# well. RETRIES (default 100) limits it. Needs gcloud, logged in; project
# and account are gcloud's own settings.
#
# DRY_RUN=1 shows the commands for one attempt.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fail() { echo "launch/tpu_pod.sh: $1" >&2; exit 2; }

[ $# -ge 3 ] ||
  fail "expected NAME ZONE COMMAND ..., such as: pod0 us-east5-a train LEAF"
name=$1 zone=$2
shift 2
log_dir=${LOG_DIR:-$PWD/${name}_logs}
retries=${RETRIES:-100}
vm=(gcloud compute tpus tpu-vm)
at=("$name" --zone "$zone")

say() { echo "launch/tpu_pod.sh: $*" >&2; }
do_it() { if [ "${DRY_RUN:-}" = 1 ]; then echo "${*@Q}"; else "$@"; fi; }
on_all() { do_it "${vm[@]}" ssh "${at[@]}" --worker=all --command "$1"; }

state() {  # READY, PREEMPTED ... or nothing where there is no such slice
  if [ "${DRY_RUN:-}" = 1 ]; then echo "${DRY_STATE:-READY}"; return; fi
  "${vm[@]}" describe "${at[@]}" --format='value(state)' 2>/dev/null || true
}

make_slice() {
  if [ -z "${ACCELERATOR:-}" ] || [ -z "${VERSION:-}" ]; then
    fail "$name is ${1:-not there}; set ACCELERATOR and VERSION to have it made"
  fi
  if [ -n "$1" ]; then do_it "${vm[@]}" delete "${at[@]}" --quiet; fi
  local spot=()
  if [ "${SPOT:-}" = 1 ]; then spot=(--spot); fi
  do_it "${vm[@]}" create "${at[@]}" --accelerator-type "$ACCELERATOR" \
    --version "$VERSION" "${spot[@]}"
}

copy() {  # the commit that is checked out, to ~/musiclm_jax of every worker
  local archive
  archive=$(mktemp --suffix=.tgz)
  do_it git -C "$root" archive --format=tgz -o "$archive" HEAD
  do_it "${vm[@]}" scp "$archive" "$name:musiclm_jax.tgz" --zone "$zone" \
    --worker=all
  rm -f "$archive"
  on_all 'mkdir -p musiclm_jax && tar -xzf musiclm_jax.tgz -C musiclm_jax'
}

attempt() {
  local now
  now=$(state)
  if [ "$now" != READY ]; then make_slice "$now"; fi
  copy
  # The command as the remote shell must read it: each word quoted.
  on_all "cd musiclm_jax && MUSICLM_COORDINATOR=auto bash launch/host.sh$(
    printf ' %q' "$@")"
}

collect() {  # the logs; gcloud copies from one worker at a time
  local worker
  do_it mkdir -p "$log_dir"
  for ((worker = 0; ; worker++)); do
    do_it "${vm[@]}" scp "$name:musiclm_logs/*" "$log_dir/" --zone "$zone" \
      --worker="$worker" 2>/dev/null || break
    if [ "${DRY_RUN:-}" = 1 ]; then break; fi
  done
}

for ((try = 0; ; try++)); do
  code=0
  # In a subshell of its own, as a condition would switch `set -e` off in it.
  set +e
  (set -e; attempt "$@")
  code=$?
  set -e
  if [ "$code" -eq 2 ]; then exit 2; fi
  collect
  now=$(state)
  if [ "$code" -eq 0 ] && [ "$now" = READY ]; then exit 0; fi
  if [ "${DRY_RUN:-}" = 1 ] || [ "$try" -ge "$retries" ]; then exit "$code"; fi
  say "ended with $code, $name is ${now:-gone}; attempt $((try + 2))"
  sleep "${PAUSE:-30}"
done
