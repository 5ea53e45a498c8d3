#!/usr/bin/env bash
# One host's part of a program that runs on many; the other scripts of this
# folder start it on each of them.
#
#   bash launch/host.sh COMMAND ...      as for launch/local.sh
#
# Which host it is, and how many there are, it takes from the first that is set:
#   MUSICLM_COORDINATOR=HOST:PORT MUSICLM_NUM_PROCESSES=N MUSICLM_PROCESS_ID=I
#   Slurm's SLURM_PROCID, an indexed Kubernetes job's JOB_COMPLETION_INDEX for
#   the last of them; MUSICLM_COORDINATOR=auto on the workers of a TPU slice.
# What it says goes to LOG_DIR (default: ~/musiclm_logs), a file for each host,
# as well as to where it is said.
#
# A run that a signal stopped before its end exits with 75, so that whoever
# started it starts it again; with 0 only when there is nothing left to do.
#
# DRY_RUN=1 shows what it would do.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fail() { echo "launch/host.sh: $1" >&2; exit 2; }

[ $# -gt 0 ] ||
  fail "no command; expected one of launch/local.sh, such as train"
export MUSICLM_COORDINATOR=${MUSICLM_COORDINATOR:-}
export MUSICLM_STOPPED_EXIT=${MUSICLM_STOPPED_EXIT:-75}
index=${MUSICLM_PROCESS_ID:-${SLURM_PROCID:-${JOB_COMPLETION_INDEX:-}}}
if [ -n "$index" ]; then export MUSICLM_PROCESS_ID=$index; fi
name=host_${index:-$(uname -n)}
log_dir=${LOG_DIR:-$HOME/musiclm_logs}
if [ "${DRY_RUN:-}" = 1 ]; then
  env | grep '^MUSICLM_' | sort
  echo "log $log_dir/$name.log"
  echo "run bash $here/local.sh $*"
  exit
fi
mkdir -p "$log_dir" 2>/dev/null ||
  fail "cannot write to LOG_DIR $log_dir; set it to another folder"
# Not a pipe: signals reach the program itself, which then saves a checkpoint.
exec > >(exec tee -a "$log_dir/$name.log") 2>&1
echo "$(date -u +%FT%TZ) $(uname -n) $name: $*"
exec bash "$here/local.sh" "$@"
